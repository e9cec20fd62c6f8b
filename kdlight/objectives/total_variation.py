"""Total variation: half the distance of the probabilities."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdlight import losses
from kdlight.losses import gradients
from kdlight.objectives.token_objective import Divergence


class TotalVariation(Divergence):
    """Total variation distance, `kdlight.losses.total_variation`.

    Wen, Li, Du, Mou, "f-Divergence Minimization for Sequence-Level Knowledge Distillation", 2023.
    Choose it where no single entry may dominate: it is at most 1 a position.

    Example:
        >>> import torch
        >>> from kdlight.objectives import LossInputs
        >>> logits = torch.randn(4, 7)
        >>> TotalVariation()(LossInputs(logits, logits)).mean().item()
        0.0
    """

    def divergence(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        """``(n, V), (n, V) -> (n,)``."""
        return losses.total_variation(student, teacher, temperature=self.temperature)

    def divergence_and_grad(
        self, student: Tensor, teacher: Tensor, labels: Any
    ) -> tuple[Tensor, Tensor]:
        """Compute the divergence and its gradient."""
        return gradients.total_variation(student, teacher)
