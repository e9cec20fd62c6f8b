"""Logits over one vocabulary, rearranged for another."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kdlight.sources.base import LogitsSource
from kdlight.sources.wrapped import Wrapped


@dataclass(eq=False)
class Alignment:
    """Which token id of the student is which of the teacher.

    Attributes:
        student_ids: ids ``(S,)`` of the tokens that both have, increasing.
        teacher_ids: the teacher's ids ``(S,)`` of the same tokens.
        student_size: width of the student's logits.
        teacher_size: width of the teacher's logits.

    Example:
        >>> alignment = Alignment(torch.tensor([0]), torch.tensor([0]), 2, 2)
        >>> alignment.student_only()
        tensor([1])
    """

    student_ids: Tensor
    teacher_ids: Tensor
    student_size: int
    teacher_size: int

    def student_only(self) -> Tensor:
        """Return the columns of the student that the teacher lacks."""
        known = torch.zeros(self.student_size, dtype=torch.bool)
        known[self.student_ids] = True
        return (~known).nonzero().flatten()

    def to_teacher(self, ids: Tensor) -> Tensor:
        """Convert input ids of the student to those of the teacher, ``(...) -> (...)``.

        Raises:
            ValueError: the teacher lacks a token.
        """
        table = torch.full((self.student_size,), -1, device=ids.device)
        table[self.student_ids.to(ids.device)] = self.teacher_ids.to(ids.device)
        converted = table[ids]
        if (converted < 0).any():
            unknown = ids[converted < 0].unique()
            raise ValueError(
                f"the teacher does not know {len(unknown)} tokens of this batch, ids"
                f" {unknown[:8].tolist()}, and cannot read the batch. For two tokenizers use an"
                " objective made for them, such as ULD or MultiLevelOT"
            )
        return converted


@dataclass(eq=False)
class Aligned(Wrapped):
    """Logits of a teacher in the student's vocabulary; -inf in columns that the teacher lacks.

    Attributes:
        source: logits of the teacher in its own vocabulary.
        alignment: which column is which.

    Example:
        >>> from kdlight import Dense
        >>> alignment = Alignment(torch.tensor([0, 1]), torch.tensor([1, 0]), 2, 2)
        >>> Aligned(Dense(torch.tensor([[5.0, 7.0]])), alignment).logits()
        tensor([[7., 5.]])
    """

    alignment: Alignment

    @property
    def shape(self) -> torch.Size:
        """Shape ``(..., V)``, with the student's V."""
        return torch.Size([*self.source.shape[:-1], self.alignment.student_size])

    def logits(self) -> Tensor:
        """Compute the shared columns, and -inf in all others."""
        return self._to_student(self.source.logits())

    def given_student(self, student: Tensor) -> Tensor:
        """Compute the logits, given the student's, ``(n, V) -> (n, V)``."""
        if type(self.source).given_student is LogitsSource.given_student:
            return self.logits()  # which spares a copy of the student's logits
        student_ids, teacher_ids = self._ids(student.device)
        shape = (*student.shape[:-1], self.alignment.teacher_size)
        seen = student.new_full(shape, -torch.inf)
        seen = seen.index_copy(-1, teacher_ids, student.detach()[..., student_ids])
        return self._to_student(self.source.given_student(seen))

    def _to_student(self, logits: Tensor) -> Tensor:
        student_ids, teacher_ids = self._ids(logits.device)
        empty = logits.new_full((*logits.shape[:-1], self.alignment.student_size), -torch.inf)
        return empty.index_copy(-1, student_ids, logits[..., teacher_ids])

    def _ids(self, device: torch.device) -> tuple[Tensor, Tensor]:
        ids = self.alignment.student_ids, self.alignment.teacher_ids
        return ids[0].to(device), ids[1].to(device)
