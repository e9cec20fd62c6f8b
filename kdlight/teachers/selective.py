"""A teacher that is asked only where the student needs it."""

from __future__ import annotations

from collections.abc import Iterator
from math import log, log2
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kdlight.logits import Logits, LogitsSource, as_source
from kdlight.losses.log_space import log_probs
from kdlight.teachers.base import TeacherBase
from kdlight.teachers.frozen import FrozenTeacher
from kdlight.teachers.stacked import Nobody, Stacked, stack, take

ROWS = 256
"""Positions whose logits are made at once."""

Ask = Literal["entropy", "random_entropy", "errors"]
RULES = ("entropy", "random_entropy", "errors")


class SelectiveTeacher(TeacherBase):
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
        >>> _ = teacher.beside(torch.zeros(2, 3), student, None)
        >>> teacher.share
        0.5
    """

    def __init__(
        self, teacher: nn.Module | TeacherBase, *, ask: Ask = "entropy", threshold: float = 0.0
    ) -> None:
        if ask not in RULES:
            raise ValueError(f"ask must be one of {RULES}, got {ask!r}")
        if not threshold >= 0:
            raise ValueError(f"threshold must not be negative, got {threshold}")
        self.teacher = teacher if isinstance(teacher, TeacherBase) else FrozenTeacher(teacher)
        self.ask = ask
        self.threshold = float(threshold)
        self.share = 1.0

    def __call__(self, batch: Any) -> LogitsSource:
        """Logits for all of ``batch``."""
        self.share = 1.0
        return self.teacher(batch)

    def beside(self, batch: Any, student: Logits, labels: Tensor | None) -> LogitsSource:
        """Logits for those rows of ``batch`` that the student needs, the student's for the others.

        Args:
            batch: the batch.
            student: the student's logits, ``(B, ..., V)``.
            labels: aligned labels ``(B, ...)``, -100 where a position does not count.
        """
        source = as_source(student)
        positions, vocabulary = source.shape[:-1], source.shape[-1]
        score, device = self._scores(source, labels)
        if self.ask == "random_entropy":
            asked = torch.rand(len(score)) < score / log2(vocabulary)
        else:
            asked = score > self.threshold
        if any(each.shard for each in self.live()):
            asked[0] = True  # ranks gather a sharded teacher together
        self.share = asked.double().mean().item()
        if asked.all():
            return self.teacher(batch)
        silent = (~asked).nonzero().flatten()
        nobody = Nobody(torch.Size([len(silent), *positions[1:]]), vocabulary)
        if not asked.any():
            return stack([nobody], [silent], positions, device)
        those = asked.nonzero().flatten()
        return self._stack(batch, those, nobody, silent, positions, device)

    def prepare(self, device: torch.device) -> None:
        """Prepare the teacher within."""
        self.teacher.prepare(device)

    def release(self) -> None:
        """Release the teacher within."""
        self.teacher.release()

    def limit(self, student: Logits) -> Logits:
        """As the teacher within."""
        return self.teacher.limit(student)

    def live(self) -> Iterator[FrozenTeacher]:
        """The live networks within."""
        yield from self.teacher.live()

    def _stack(
        self,
        batch: Any,
        those: Tensor,
        nobody: Nobody,
        silent: Tensor,
        positions: torch.Size,
        device: torch.device,
    ) -> Stacked:
        answers = self.teacher(take(batch, those))
        return stack([answers, nobody], [those, silent], positions, device)

    @torch.no_grad()
    def _scores(self, source: LogitsSource, labels: Tensor | None) -> tuple[Tensor, torch.device]:
        """The mean score of each row on the CPU ``(B,)``, and the device of the logits."""
        if labels is None and self.ask == "errors":
            raise ValueError("ask='errors' compares with labels, but the batch has none")
        positions = source.shape[:-1]
        keep = torch.ones(positions, dtype=torch.bool) if labels is None else labels != -100
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
