"""Logits that exist, and logits that somebody else makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from kdlight.logits import Dense, LogitsSource
from kdlight.losses.log_space import widen


class Positions:
    """Where the rows of a chunk stand among the flattened positions."""

    def __init__(self, index: Tensor | None) -> None:
        self.index, self.start = index, 0

    def begin(self, rows: slice) -> None:
        """Remember where the chunk starts."""
        self.start = rows.start

    def of(self, part: slice) -> Tensor | slice:
        """The positions of a part of the chunk."""
        rows = slice(self.start + part.start, self.start + part.stop)
        return rows if self.index is None else self.index[rows]


class Stored(Positions):
    """Nothing is made, and the slopes are the gradient."""

    def __init__(self, source: Dense, index: Tensor | None) -> None:
        super().__init__(index)
        self.inputs = (source.select(None).tensor,)
        self.logits = Dense(self.inputs[0].detach())
        self.gradient = self.inputs[0].new_empty(0)

    def block(self, part: slice, student: Tensor | None = None) -> Tensor:
        """Logits ``(m, V)`` of a part of the chunk."""
        return self.logits.select(self.of(part)).tensor

    def want(self, needed: Sequence[bool]) -> None:
        """Prepare for the gradient."""
        # where only some positions count, the others get none
        make = torch.empty_like if self.index is None else torch.zeros_like
        self.gradient = make(self.logits.tensor)

    def put(self, part: slice, slopes: Tensor) -> None:
        """The slopes of a part are its gradient."""
        self.gradient[self.of(part)] = slopes.to(self.gradient.dtype)

    def finish(self, rows: slice) -> None:
        """Nothing is left to do."""

    def gradients(self) -> list[Tensor | None]:
        """The gradient of the logits."""
        return [self.gradient]


class Asked(Positions):
    """A source of another kind, asked for one block at a time, with the student's beside it."""

    def __init__(
        self,
        source: LogitsSource,
        index: Tensor | None,
        student_transform: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(index)
        self.source, self.student_transform = source, student_transform

    def block(self, part: slice, student: Tensor) -> Tensor:
        """Logits ``(m, V)`` of a part of the chunk."""
        if self.student_transform is not None:
            student = self.student_transform(widen(student))
        return beside_student(self.source.select(self.of(part)), student)


def beside_student(source: LogitsSource, student: Tensor) -> Tensor:
    """Logits of a teacher, who may ask to see the student's (`LogitsSource`).

    Example:
        >>> beside_student(Dense(torch.ones(1, 2)), torch.zeros(1, 2))
        tensor([[1., 1.]])
    """
    against = getattr(source, "against", None)
    return source.logits() if against is None else against(student)
