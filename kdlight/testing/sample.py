"""What the laws are asked on: seeded float64 logits, labels, and a mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kdlight.objectives import LossInputs


@dataclass(frozen=True)
class Sample:
    """Logits of a few positions, small enough to compare every number.

    Attributes:
        student: float64 logits ``(B, T, V)`` with a graph.
        teacher: likewise, without one.
        labels: ``(B, T)``.
        mask: boolean ``(B, T)``, neither all True nor all False.
        generator: draws what else a law needs.
    """

    student: Tensor
    teacher: Tensor
    labels: Tensor
    mask: Tensor
    generator: torch.Generator

    @classmethod
    def draw(cls, *, batch: int = 2, positions: int = 5, vocabulary: int = 7, seed: int = 0) -> Any:
        """The same sample for the same seed.

        Example:
            >>> Sample.draw().student.shape
            torch.Size([2, 5, 7])
        """
        generator = torch.Generator().manual_seed(seed)
        shape = (batch, positions, vocabulary)
        student = torch.randn(shape, dtype=torch.float64, generator=generator)
        teacher = torch.randn(shape, dtype=torch.float64, generator=generator)
        labels = torch.randint(vocabulary, shape[:2], generator=generator)
        mask = torch.rand(shape[:2], generator=generator) < 0.5
        mask[0, 0], mask[0, 1] = True, False
        return cls(student.requires_grad_(), teacher, labels, mask, generator)

    def step(self, **changed: Any) -> LossInputs:
        """All positions, unmasked, with what is ``changed``."""
        given = {"student": self.student, "teacher": self.teacher, "labels": self.labels}
        return LossInputs(**{**given, **changed})

    def randn(self, *shape: int) -> Tensor:
        """More float64 numbers."""
        return torch.randn(shape, dtype=torch.float64, generator=self.generator)
