"""Logits of one vocabulary seen from another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kdlight.logits import Dense, Index, LogitsSource, Projected
from kdlight.vocabulary.align import Alignment


@dataclass(frozen=True)
class Aligned:
    """Logits of a teacher in the student's vocabulary; -inf in columns that it lacks.

    Attributes:
        source: logits of the teacher in its own vocabulary.
        alignment: which column is which.

    Example:
        >>> from kdlight.vocabulary import align
        >>> alignment = align({"a": 0, "b": 1}, {"b": 0, "a": 1}, policy="map")
        >>> Aligned(Dense(torch.tensor([[5.0, 7.0]])), alignment).logits()
        tensor([[7., 5.]])
    """

    source: LogitsSource
    alignment: Alignment

    @property
    def shape(self) -> torch.Size:
        """Shape ``(..., V)``, with the student's V."""
        return torch.Size([*self.source.shape[:-1], self.alignment.student_size])

    def select(self, index: Index) -> Aligned:
        """Rows ``index`` of the flattened positions; all for None."""
        return replace(self, source=self.source.select(index))

    def logits(self) -> Tensor:
        """The shared columns in their places, -inf in all others."""
        return self._placed(self.source.logits())

    def against(self, student: Tensor) -> Tensor:
        """Logits beside those of the student, ``(n, V) -> (n, V)``."""
        beside = getattr(self.source, "against", None)
        if beside is None:
            return self.logits()
        here, there = self._ids(student.device)
        seen = student.new_full((*student.shape[:-1], self.alignment.teacher_size), -torch.inf)
        return self._placed(beside(seen.index_copy(-1, there, student.detach()[..., here])))

    def _placed(self, logits: Tensor) -> Tensor:
        here, there = self._ids(logits.device)
        empty = logits.new_full((*logits.shape[:-1], self.alignment.student_size), -torch.inf)
        return empty.index_copy(-1, here, logits[..., there])

    def _ids(self, device: torch.device) -> tuple[Tensor, Tensor]:
        ids = self.alignment.student_ids, self.alignment.teacher_ids
        return ids[0].to(device), ids[1].to(device)


def limited(source: LogitsSource, alignment: Alignment) -> LogitsSource:
    """Logits of a student without the columns that its teacher lacks: -inf, outside for both.

    Example:
        >>> from kdlight.vocabulary import align
        >>> alignment = align({"a": 0, "b": 1}, {"a": 0, "c": 1}, policy="shared")
        >>> limited(Dense(torch.zeros(1, 2)), alignment).logits()
        tensor([[0., -inf]])
    """
    outside = alignment.student_only()
    if not len(outside):
        return source
    if isinstance(source, Projected):
        return replace(source, transform=_Without(source.transform, outside))
    return Dense(_Without(None, outside)(source.logits()))


@dataclass(frozen=True)
class _Without:
    transform: Callable[[Tensor], Tensor] | None
    columns: Tensor

    def __call__(self, logits: Tensor) -> Tensor:
        logits = logits if self.transform is None else self.transform(logits)
        return logits.index_fill(-1, self.columns.to(logits.device), -torch.inf)
