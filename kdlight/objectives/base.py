"""What an objective is: a `Step` in, a `Loss` out."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from kdlight.logits import Logits, LogitsSource, as_source
from kdlight.reduce import Loss, RowValues, token_sum


@dataclass(frozen=True)
class Step:
    """What one training step offers an objective; positions are already aligned and masked.

    Attributes:
        student: student logits, a source of ``(..., V)``; a tensor is wrapped.
        teacher: teacher logits on the same positions, or None where there is no teacher.
        labels: aligned labels ``(...)``: the label of a position stands at that position.
        mask: boolean ``(...)``, True where a position counts; None keeps all.
    """

    student: LogitsSource
    teacher: LogitsSource | None = None
    labels: Tensor | None = None
    mask: Tensor | None = None

    def __init__(
        self,
        student: Logits,
        teacher: Logits | None = None,
        labels: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> None:
        object.__setattr__(self, "student", as_source(student))
        object.__setattr__(self, "teacher", None if teacher is None else as_source(teacher))
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "mask", mask)

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
        unit: what ``Loss.count`` counts. Terms of a mixture that count something else than
            ``"token"`` are brought to tokens by `Weighted`.
    """

    needs_teacher: bool = True
    needs_labels: bool = False
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


class TokenObjective(Objective):
    """An objective that is a sum over positions of a rule on rows of logits.

    A subclass writes `rows` and gets masking, normalisation, mixed precision, accumulation and
    ranks from the driver.

    Example:
        >>> import torch
        >>> class Agreement(TokenObjective):
        ...     def rows(self, student, teacher, labels):
        ...         return (student.softmax(-1) - teacher.softmax(-1)).square().sum(-1)
        >>> step = Step(torch.zeros(2, 5), torch.zeros(2, 5), mask=torch.tensor([True, False]))
        >>> Agreement()(step).count
        tensor(1)
    """

    def rows(self, student: Tensor, teacher: Any, labels: Any) -> RowValues:
        """The loss of each row, ``(n, V), (n, V), (n,) -> (n,)``.

        May return a pair of that and a dict of ``(n,)`` values that are summed for the log.
        ``teacher`` or ``labels`` is None where the class does not need it.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define rows()")

    def check(self, step: Step) -> None:
        """Besides what every objective needs: one vocabulary on both sides."""
        super().check(step)
        if self.needs_teacher and step.teacher is not None:
            check_vocabularies(step.student.shape[-1], step.teacher.shape[-1])

    def forward(self, step: Step) -> Loss:
        """Sum `rows` over the positions that count."""
        self.check(step)
        teacher = step.teacher if self.needs_teacher else None
        return token_sum(self.rows, step.student, teacher, step.labels, step.mask)


def check_vocabularies(student: int, teacher: int) -> None:
    """Raise a ValueError where two vocabularies cannot be compared entry by entry."""
    if student != teacher:
        raise ValueError(
            f"teacher and student vocabularies differ: {teacher} and {student} entries; a token"
            " objective compares them entry by entry, so both must come from the same tokenizer"
            " (crop padded vocabularies to the same ids)"
        )
