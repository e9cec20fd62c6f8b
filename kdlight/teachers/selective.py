"""A teacher that is queried about some rows of a batch only."""

from __future__ import annotations

from collections.abc import Iterable
from math import log, log2
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kdlight.checks import check_type
from kdlight.losses.labels import IGNORE_INDEX
from kdlight.losses.log_space import log_probs
from kdlight.sources import Logits, LogitsSource, Unqueried, as_source, stack, without_names
from kdlight.teachers.base import Teacher
from kdlight.teachers.batch_rows import select_batch_rows, select_labels
from kdlight.teachers.frozen import FrozenTeacher

ROWS = 256
"""Number of positions whose logits are computed at once."""

Ask = Literal["entropy", "random_entropy", "errors"]
RULES = ("entropy", "random_entropy", "errors")


class SelectiveTeacher(Teacher):
    r"""Queries a teacher only about rows where the student is uncertain or wrong.

    A row that is not queried costs no forward pass of the teacher, and its distillation loss is 0.
    To train on its labels, add a `kdlight.objectives.CrossEntropy` to the objective. A row of a
    language model is a sequence; its score is the mean over its positions. In validation all rows
    are queried. The share of queried rows is logged as ``train/query_share``.

    Polino, Pascanu, Alistarh, "Model compression via distillation and quantization", 2018, whose
    code has these rules for classifiers.

    Args:
        teacher: the teacher, or the network of a live one.
        ask: ``"entropy"`` queries rows where the student's entropy H is above ``threshold`` bits;
            ``"random_entropy"`` queries a row with probability :math:`H / \log_2 V`; ``"errors"``
            queries rows where the share of wrong predictions is above ``threshold``.
        threshold: number of bits, or a share; not used by ``"random_entropy"``.

    Raises:
        ValueError: an unknown rule, or a negative threshold; for a batch, ``"errors"`` without
            labels.

    Example:
        >>> teacher = SelectiveTeacher(torch.nn.Identity(), ask="entropy", threshold=1.0)
        >>> student = torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]])  # certain of the second
        >>> _ = teacher.answer(torch.zeros(2, 3), student)
        >>> teacher.share
        0.5
    """

    def __init__(
        self, teacher: nn.Module | Teacher, *, ask: Ask = "entropy", threshold: float = 0.0
    ) -> None:
        if ask not in RULES:
            raise ValueError(f"ask must be one of {RULES}, got {ask!r}")
        check_type("threshold", threshold, (int, float), "a number")
        if not threshold >= 0:
            raise ValueError(f"threshold must not be negative, got {threshold}")
        self.teacher = teacher if isinstance(teacher, Teacher) else FrozenTeacher(teacher)
        self.ask = ask
        self.threshold = float(threshold)
        self.share = 1.0

    def answer(
        self, batch: Any, student: Logits | None = None, labels: Tensor | None = None
    ) -> LogitsSource:
        """Query the teacher about some rows of ``batch``, or about all without ``student``.

        The logits of all other rows are the student's own.
        """
        self.share = 1.0
        if student is None:
            return self.teacher.answer(batch, labels=labels)
        source = as_source(self.mask_student(student))
        positions, vocabulary = source.shape[:-1], source.shape[-1]
        scores, device = self._scores(source, labels)
        if self.ask == "random_entropy":
            queried = torch.rand(len(scores)) < scores / log2(vocabulary)
        else:
            queried = scores > self.threshold
        if self.is_sharded:
            queried[0] = True  # ranks gather a sharded teacher together
        self.share = queried.double().mean().item()
        if queried.all():
            # where some rows are not queried, there are no teachers apart
            return without_names(self.teacher.answer(batch, labels=labels))
        rows, other_rows = queried.nonzero().flatten(), (~queried).nonzero().flatten()
        others = Unqueried(torch.Size([len(other_rows), *positions[1:]]), vocabulary)
        if not len(rows):
            return stack([others], [other_rows], positions, device)
        own_labels = select_labels(labels, rows)
        answers = self.teacher.answer(select_batch_rows(batch, rows), labels=own_labels)
        return stack([answers, others], [rows, other_rows], positions, device)

    def expect(self, batch: Any) -> None:
        """Do nothing: which rows the teacher is queried about is not known before."""

    @property
    def looks_ahead(self) -> bool:
        """Whether it is told the next training batch before: it has no use for it."""
        return False

    @property
    def needs_student(self) -> bool:
        """Whether `answer` needs the student's logits in training: it does."""
        return True

    def teachers(self) -> Iterable[Teacher]:
        """Return the teacher that is queried."""
        return (self.teacher,)

    def metrics(self) -> dict[str, float]:
        """Return the share of the rows that the teacher was queried about."""
        return super().metrics() | {"query_share": self.share}

    @torch.no_grad()
    def _scores(self, source: LogitsSource, labels: Tensor | None) -> tuple[Tensor, torch.device]:
        """Return the mean score of each row, ``(B,)`` on the CPU, and the device of the logits."""
        if labels is None and self.ask == "errors":
            raise ValueError(
                "ask='errors' compares predictions with labels, but the batch has none; use"
                " ask='entropy'"
            )
        positions = source.shape[:-1]
        valid = (
            torch.ones(positions, dtype=torch.bool) if labels is None else labels != IGNORE_INDEX
        )
        index = valid.flatten().nonzero().flatten()
        totals, counts = (torch.zeros(positions[0]) for _ in range(2))
        width, device = positions[1:].numel(), valid.device
        for chunk in index.split(ROWS):
            log_q = log_probs(source.select(chunk).logits())
            device = log_q.device
            if self.ask == "errors":
                assert labels is not None
                values = (log_q.argmax(-1) != labels.flatten()[chunk]).float()
            else:
                values = torch.special.entr(log_q.exp()).sum(-1) / log(2)
            rows = (chunk // width).cpu()
            totals.index_add_(0, rows, values.float().cpu())
            counts.index_add_(0, rows, torch.ones(len(rows)))
        return totals / counts.clamp(min=1), device
