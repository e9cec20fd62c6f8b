"""Total variation: half the sum of absolute differences of the probabilities."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdlight import losses
from kdlight.losses import value_and_grad
from kdlight.objectives.token_objective import Divergence


class TotalVariation(Divergence):
    """Total variation distance, `kdlight.losses.total_variation`.

    Wen, Li, Du, Mou, "f-Divergence Minimization for Sequence-Level Knowledge Distillation", 2023.
    Choose it if no position may dominate the mean: the loss of a position is at most 1.

    Example:
        >>> import torch
        >>> from kdlight.objectives import LossInputs
        >>> logits = torch.randn(4, 7)
        >>> TotalVariation()(LossInputs(logits, logits)).mean().item()
        0.0
    """

    def divergence(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        """Compute the divergence of each row, ``(n, V), (n, V) -> (n,)``."""
        return losses.total_variation(student, teacher, temperature=self.temperature)

    def divergence_and_grad(
        self, student: Tensor, teacher: Tensor, labels: Any
    ) -> tuple[Tensor, Tensor]:
        """Compute the divergence and its gradient."""
        return value_and_grad.total_variation(student, teacher)
