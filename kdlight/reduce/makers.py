"""Makers of logits, chunk by chunk: the one who is asked depends on the source.

A maker is asked, in this order: ``begin`` a chunk of rows; hand out ``block`` after block of its
logits; take back the slopes of each block (``put``); ``finish`` the chunk. What it learned about
its ``inputs`` stands in ``gradients`` at the end. A teacher's is only asked for the first two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from kdlight.logits import Dense, LogitsSource, Projected
from kdlight.reduce.projected import Head, Linear, is_plain
from kdlight.reduce.stored import Asked, Stored


class Maker(Protocol):
    """Makes logits of rows."""

    def begin(self, rows: slice) -> None:
        """Make the logits of a chunk, or prepare to."""
        ...

    def block(self, part: slice, student: Tensor) -> Tensor:
        """Logits ``(m, V)`` of a part of the chunk, for a teacher beside those of the student."""
        ...


class StudentMaker(Protocol):
    """Makes logits of rows, and finds the gradients of what it makes them of."""

    inputs: tuple[Tensor, ...]

    def begin(self, rows: slice) -> None:
        """Make the logits of a chunk, or prepare to."""
        ...

    def block(self, part: slice) -> Tensor:
        """Logits ``(m, V)`` of a part of the chunk."""
        ...

    def want(self, needed: Sequence[bool]) -> None:
        """Prepare for the gradients of some of the inputs."""
        ...

    def put(self, part: slice, slopes: Tensor) -> None:
        """Take the slopes ``(m, V)`` of a part."""
        ...

    def finish(self, rows: slice) -> None:
        """Bring the slopes of the chunk back to the inputs."""
        ...

    def gradients(self) -> list[Tensor | None]:
        """One for each of the inputs, None where none was wanted."""
        ...


def student_maker(
    source: Dense | Projected, index: Tensor | None, tokens: int
) -> Stored | Linear | Head:
    """The maker for a student; ``index`` are the positions that count."""
    if isinstance(source, Dense):
        return Stored(source, index)
    packed = source.select(index)
    return Linear(packed, tokens) if is_plain(packed.head) else Head(packed)


def teacher_maker(
    source: LogitsSource | None, index: Tensor | None, tokens: int, student: Dense | Projected
) -> Maker | None:
    """The maker for a teacher, if there is one."""
    if source is None:
        return None
    if isinstance(source, (Dense, Projected)):
        return student_maker(source, index, tokens)
    return Asked(source, index, getattr(student, "transform", None))
