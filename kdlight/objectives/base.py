"""What an objective is: a `Step` in, a `Loss` out."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from kdlight.logits import Logits, LogitsSource, as_source
from kdlight.reduce import Chunked, Loss


@dataclass(frozen=True)
class Step:
    """What one training step offers an objective; positions are already aligned and masked.

    Attributes:
        student: student logits, a source of ``(..., V)``; a tensor is wrapped.
        teacher: teacher logits on the same positions, or None where there is no teacher.
        labels: aligned labels ``(...)``: the label of a position stands at that position.
        mask: boolean ``(...)``, True where a position counts; None keeps all.
        teacher_mask: the mask of a teacher with positions of its own (another tokenizer).
        rejected: boolean ``(B,)``, True where a sequence is one to move away from.
        span_ids: aligned integers ``(B, T)``, one number a span, -1 outside all of them.
        chunked: whether logits are made in chunks, see `kdlight.reduce.Chunking`.

    Example:
        >>> step = Step(torch.zeros(2, 5), torch.zeros(2, 5), mask=torch.tensor([False, True]))
        >>> step.student.shape, step.kept()
        (torch.Size([2, 5]), tensor([1]))
    """

    student: LogitsSource
    teacher: LogitsSource | None = None
    labels: Tensor | None = None
    mask: Tensor | None = None
    teacher_mask: Tensor | None = None
    rejected: Tensor | None = None
    span_ids: Tensor | None = None
    chunked: Chunked = "auto"

    def __init__(
        self,
        student: Logits,
        teacher: Logits | None = None,
        labels: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        teacher_mask: Tensor | None = None,
        rejected: Tensor | None = None,
        span_ids: Tensor | None = None,
        chunked: Chunked = "auto",
    ) -> None:
        fields = {
            "student": as_source(student),
            "teacher": None if teacher is None else as_source(teacher),
            "labels": labels,
            "mask": mask,
            "teacher_mask": teacher_mask,
            "rejected": rejected,
            "span_ids": span_ids,
            "chunked": chunked,
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def kept(self) -> Tensor:
        """Indices ``(n,)`` of the positions that count, among the flattened positions."""
        if self.mask is not None:
            return self.mask.flatten().nonzero().squeeze(-1)
        return torch.arange(prod(self.student.shape[:-1]))


class Objective(nn.Module):
    """A distillation objective: hyper-parameters, perhaps state, and ``forward(step) -> Loss``.

    ``forward`` never sees a trainer and never changes a buffer: what moves over time (``t``, a
    temperature, a weight) is a plain attribute that a callback moves.

    Attributes:
        needs_teacher: whether ``step.teacher`` must be there.
        needs_labels: whether ``step.labels`` must be there.
        by_row: whether the objective is the sum of its ``rows`` and nothing else, so that
            `Weighted` may evaluate it together with others.
        unit: what ``Loss.count`` counts. Terms of a mixture that count something else than
            ``"token"`` are brought to tokens by `Weighted`.

    Example:
        >>> class Distance(Objective):
        ...     def forward(self, step):
        ...         difference = step.student.logits() - step.teacher.logits()
        ...         return Loss(difference.square().sum(), torch.tensor(len(step.kept())))
        >>> Distance()(Step(torch.zeros(2, 5), torch.ones(2, 5))).mean()
        tensor(5.)
    """

    needs_teacher: bool = True
    needs_labels: bool = False
    by_row: bool = False
    unit: str = "token"

    def forward(self, step: Step) -> Loss:
        """Evaluate the objective on one step."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward(step)")

    def check(self, step: Step) -> None:
        """Raise a ValueError that says what is missing, or what does not fit, in ``step``."""
        if self.needs_teacher and step.teacher is None:
            raise ValueError(f"{type(self).__name__} needs a teacher, but the step has none")
        if self.needs_labels and step.labels is None:
            raise ValueError(f"{type(self).__name__} needs labels, but the step has none")


def check_vocabularies(student: int, teacher: int) -> None:
    """Raise a ValueError where two vocabularies cannot be compared entry by entry.

    Example:
        >>> check_vocabularies(5, 7)
        Traceback (most recent call last):
        ValueError: teacher and student vocabularies differ: 7 and 5 entries; a token objective ...
    """
    if student != teacher:
        raise ValueError(
            f"teacher and student vocabularies differ: {teacher} and {student} entries; a token"
            " objective compares them entry by entry, so both must come from the same tokenizer"
            " (crop padded vocabularies to the same ids)"
        )
