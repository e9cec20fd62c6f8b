"""A teacher that is asked only where the student needs it."""

from __future__ import annotations

from collections.abc import Iterable
from math import log, log2
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kdlight.losses.labels import IGNORE_INDEX
from kdlight.losses.log_space import log_probs
from kdlight.sources import Logits, LogitsSource, Unqueried, as_source, stack
from kdlight.teachers.base import Teacher
from kdlight.teachers.batch_rows import select_batch_rows
from kdlight.teachers.frozen import FrozenTeacher

ROWS = 256
"""Positions whose logits are made at once."""

Ask = Literal["entropy", "random_entropy", "errors"]
RULES = ("entropy", "random_entropy", "errors")


class SelectiveTeacher(Teacher):
    r"""Asks a teacher about the rows of a batch that the student is unsure of, or errs on.

    A row that is not asked about costs no forward pass of the teacher, and has no distillation
    loss; what it still learns from is the labels, by a `CrossEntropy` beside the objective. A
    row of a language model is a sequence, and is judged by the mean over its positions. In
    validation every row is asked about. The share is logged as ``train/query_share``.

    Polino, Pascanu, Alistarh, "Model compression via distillation and quantization", 2018, whose
    code has these rules for classifiers.

    Args:
        teacher: the teacher, or the network of a live one.
        ask: ``"entropy"`` asks where the student's entropy is above ``threshold`` bits;
            ``"random_entropy"`` with the probability :math:`H / \log_2 V`; ``"errors"`` where the
            share of wrong predictions is above ``threshold``.
        threshold: bits, or a share; not used by ``"random_entropy"``.

    Raises:
        ValueError: an unknown rule, or a negative threshold; with a batch, no labels to err on.

    Example:
        >>> teacher = SelectiveTeacher(torch.nn.Identity(), ask="entropy", threshold=1.0)
        >>> student = torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]])  # sure of the second row
        >>> _ = teacher.answer(torch.zeros(2, 3), student)
        >>> teacher.share
        0.5
    """

    def __init__(
        self, teacher: nn.Module | Teacher, *, ask: Ask = "entropy", threshold: float = 0.0
    ) -> None:
        if ask not in RULES:
            raise ValueError(f"ask must be one of {RULES}, got {ask!r}")
        if not threshold >= 0:
            raise ValueError(f"threshold must not be negative, got {threshold}")
        self.teacher = teacher if isinstance(teacher, Teacher) else FrozenTeacher(teacher)
        self.ask = ask
        self.threshold = float(threshold)
        self.share = 1.0

    def answer(
        self, batch: Any, student: Logits | None = None, labels: Tensor | None = None
    ) -> LogitsSource:
        """Query the teacher about some rows of ``batch``; about all without the student's logits.

        The logits of all other rows are the student's own.
        """
        self.share = 1.0
        if student is None:
            return self.teacher(batch)
        source = as_source(student)
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
            return self.teacher(batch)
        rows, other_rows = queried.nonzero().flatten(), (~queried).nonzero().flatten()
        others = Unqueried(torch.Size([len(other_rows), *positions[1:]]), vocabulary)
        if not len(rows):
            return stack([others], [other_rows], positions, device)
        answers = self.teacher(select_batch_rows(batch, rows))
        return stack([answers, others], [rows, other_rows], positions, device)

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
        """The mean score of each row on the CPU ``(B,)``, and the device of the logits."""
        if labels is None and self.ask == "errors":
            raise ValueError("ask='errors' compares with labels, but the batch has none")
        positions = source.shape[:-1]
        keep = torch.ones(positions, dtype=torch.bool) if labels is None else labels != IGNORE_INDEX
        index = keep.flatten().nonzero().flatten()
        totals, counts = (torch.zeros(positions[0]) for _ in range(2))
        width, device = positions[1:].numel(), keep.device
        for some in index.split(ROWS):
            log_q = log_probs(source.select(some).logits())
            device = log_q.device
            if self.ask == "errors":
                assert labels is not None
                values = (log_q.argmax(-1) != labels.flatten()[some]).float()
            else:
                values = torch.special.entr(log_q.exp()).sum(-1) / log(2)
            rows = (some // width).cpu()
            totals.index_add_(0, rows, values.float().cpu())
            counts.index_add_(0, rows, torch.ones(len(rows)))
        return totals / counts.clamp(min=1), device
