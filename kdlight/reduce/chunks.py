"""Providers of logits in chunks: of logits that exist, and of sources that compute them.

A provider is used in this order: ``begin`` a chunk of rows; get its logits block by block from
``block``; give the gradient of each block back to ``set_grad``; ``backward`` the chunk. The
gradients of its ``inputs`` are in ``gradients`` at the end. Of a teacher only ``begin`` and
``block`` are used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from kdlight.losses.log_space import widen
from kdlight.losses.recompute import current_autocast
from kdlight.reduce.divided_head import DividedHead
from kdlight.reduce.heads import LinearHeadChunks, ModuleHeadChunks, is_plain_linear
from kdlight.sources import Dense, LogitsSource, Projected


class TeacherChunks(Protocol):
    """Provides the logits of a teacher in chunks."""

    def begin(self, rows: slice) -> None:
        """Start a chunk, and compute its logits if that is done at once."""
        ...

    def block(self, part: slice, student: Tensor) -> Tensor:
        """Return the logits ``(m, V)`` of a part of the chunk, given the student's."""
        ...


class ChunkedLogits(Protocol):
    """Provides the logits of a student in chunks, and the gradients of what they are made of."""

    inputs: tuple[Tensor, ...]

    def begin(self, rows: slice) -> None:
        """Start a chunk, and compute its logits if that is done at once."""
        ...

    def block(self, part: slice) -> Tensor:
        """Return the logits ``(m, V)`` of a part of the chunk."""
        ...

    def require_grad(self, needed: Sequence[bool]) -> None:
        """Prepare for the gradients of some of the inputs."""
        ...

    def set_grad(self, part: slice, grad: Tensor) -> None:
        """Take the gradient ``(m, V)`` of a part."""
        ...

    def backward(self, rows: slice) -> None:
        """Propagate the gradient of the chunk to the inputs."""
        ...

    def gradients(self) -> list[Tensor | None]:
        """Return the gradient of each input, None where it is not needed."""
        ...


def student_chunks(source: Dense | Projected, index: Tensor | None, tokens: int) -> ChunkedLogits:
    """Return the provider for a student; ``index`` holds the valid positions."""
    if isinstance(source, Dense):
        return DenseChunks(source, index)
    if isinstance(source, DividedHead):  # which has the valid rows of all ranks
        return source.chunks(tokens)
    selected = source.select(index)
    if is_plain_linear(selected.head):
        return LinearHeadChunks(selected, tokens)
    return ModuleHeadChunks(selected)


def teacher_chunks(
    source: LogitsSource | None, index: Tensor | None, tokens: int, student: Dense | Projected
) -> TeacherChunks | None:
    """Return the provider for a teacher, if there is one."""
    if source is None:
        return None
    if isinstance(source, (Dense, Projected)):
        return student_chunks(source, index, tokens)  # type: ignore[return-value]
    return LazyChunks(source, index, getattr(student, "transform", None))


class _Positions:
    """Maps the rows of a chunk to the flattened positions."""

    def __init__(self, index: Tensor | None) -> None:
        self.index, self.start = index, 0

    def begin(self, rows: slice) -> None:
        """Remember where the chunk starts."""
        self.start = rows.start

    def positions(self, part: slice) -> Tensor | slice:
        """Return the positions of a part of the chunk."""
        rows = slice(self.start + part.start, self.start + part.stop)
        return rows if self.index is None else self.index[rows]


class DenseChunks(_Positions):
    """Logits that exist: nothing is computed, and the blocks' gradients are the gradient."""

    def __init__(self, source: Dense, index: Tensor | None) -> None:
        super().__init__(index)
        self.inputs = (source.select(None).tensor,)
        self.logits = Dense(self.inputs[0].detach())
        self.grad = self.inputs[0].new_empty(0)

    def block(self, part: slice, student: Tensor | None = None) -> Tensor:
        """Return the logits ``(m, V)`` of a part of the chunk."""
        return self.logits.select(self.positions(part)).tensor

    def require_grad(self, needed: Sequence[bool]) -> None:
        """Allocate the gradient."""
        # where only some positions are valid, the others have a gradient of 0
        allocate = torch.empty_like if self.index is None else torch.zeros_like
        self.grad = allocate(self.logits.tensor)

    def set_grad(self, part: slice, grad: Tensor) -> None:
        """Copy the gradient of a part."""
        self.grad[self.positions(part)] = grad.to(self.grad.dtype)

    def backward(self, rows: slice) -> None:
        """Do nothing: there is no head to propagate through."""

    def gradients(self) -> list[Tensor | None]:
        """Return the gradient of the logits."""
        return [self.grad]


class LazyChunks(_Positions):
    """A source of another type, evaluated one block at a time, given the student's logits."""

    def __init__(
        self,
        source: LogitsSource,
        index: Tensor | None,
        student_transform: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(index)
        self.source, self.student_transform = source, student_transform
        # the loop over chunks disables autocast; a head in the source runs under that of the model
        self.autocast = current_autocast(source.device)

    def block(self, part: slice, student: Tensor) -> Tensor:
        """Compute the logits ``(m, V)`` of a part of the chunk."""
        if self.student_transform is not None:
            student = self.student_transform(widen(student))
        with self.autocast():
            return self.source.select(self.positions(part)).given_student(student)
