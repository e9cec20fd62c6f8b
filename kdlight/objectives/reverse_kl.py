"""Reverse KL: the student keeps to what the teacher would say."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdlight import losses
from kdlight.losses import gradients
from kdlight.objectives.token_objective import Divergence


class ReverseKL(Divergence):
    """KL from the student to the teacher, `kdlight.losses.reverse_kl`.

    Gu, Dong, Wei, Huang, "MiniLLM: Knowledge Distillation of Large Language Models", 2024. Choose
    it when a small student should be sure of some of the teacher's modes, not blur them all.

    Example:
        >>> import torch
        >>> from kdlight.objectives import LossInputs
        >>> logits = torch.randn(4, 7)
        >>> ReverseKL()(LossInputs(logits, logits)).mean().item()
        0.0
    """

    def divergence(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        """``(n, V), (n, V) -> (n,)``."""
        return losses.reverse_kl(student, teacher, temperature=self.temperature)

    def divergence_and_grad(
        self, student: Tensor, teacher: Tensor, labels: Any
    ) -> tuple[Tensor, Tensor]:
        """Compute the divergence and its gradient."""
        return gradients.reverse_kl(student, teacher)
