"""The data that laws are checked on: seeded float64 logits, labels, and a mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kdlight.objectives import LossInputs


@dataclass(frozen=True)
class Sample:
    """Logits of a few positions.

    Attributes:
        student: float64 logits ``(B, T, V)`` that require a gradient.
        teacher: float64 logits ``(B, T, V)`` without a gradient.
        labels: ``(B, T)``.
        mask: boolean ``(B, T)``, neither all True nor all False.
        generator: for the random numbers of laws.
    """

    student: Tensor
    teacher: Tensor
    labels: Tensor
    mask: Tensor
    generator: torch.Generator

    @classmethod
    def draw(
        cls, *, batch: int = 2, positions: int = 5, vocabulary: int = 7, seed: int = 0
    ) -> Sample:
        """Draw a sample, which is the same for the same seed.

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

    def inputs(self, **changed: Any) -> LossInputs:
        """Return student, teacher and labels without a mask, with the fields in ``changed``."""
        fields = {"student": self.student, "teacher": self.teacher, "labels": self.labels}
        return LossInputs(**{**fields, **changed})

    def randn(self, *shape: int) -> Tensor:
        """Draw float64 normal numbers."""
        return torch.randn(shape, dtype=torch.float64, generator=self.generator)
