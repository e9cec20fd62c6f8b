"""Reverse KL, which makes the student concentrate on modes of the teacher."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdlight import losses
from kdlight.losses import value_and_grad
from kdlight.objectives.token_objective import Divergence


class ReverseKL(Divergence):
    """KL from the student to the teacher, `kdlight.losses.reverse_kl`.

    Gu, Dong, Wei, Huang, "MiniLLM: Knowledge Distillation of Large Language Models", 2024. Choose
    it if a small student should fit some modes of the teacher well rather than cover all of them.

    Example:
        >>> import torch
        >>> from kdlight.objectives import LossInputs
        >>> logits = torch.randn(4, 7)
        >>> ReverseKL()(LossInputs(logits, logits)).mean().item()
        0.0
    """

    def divergence(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        """Compute the divergence of each row, ``(n, V), (n, V) -> (n,)``."""
        return losses.reverse_kl(student, teacher, temperature=self.temperature)

    def divergence_and_grad(
        self, student: Tensor, teacher: Tensor, labels: Any
    ) -> tuple[Tensor, Tensor]:
        """Compute the divergence and its gradient."""
        return value_and_grad.reverse_kl(student, teacher)
