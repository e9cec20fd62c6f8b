"""Adaptive KL: forward KL for the head of the distribution, reverse KL for its tail."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdlight import losses
from kdlight.checks import check_range
from kdlight.losses import value_and_grad_both_kls
from kdlight.objectives.token_objective import Divergence


class AdaptiveKL(Divergence):
    """Forward and reverse KL with weights per token, `kdlight.losses.adaptive_kl`.

    Wu, Tao, Wang, Yang, Zhao, Wong, "Rethinking Kullback-Leibler Divergence in Knowledge
    Distillation for Large Language Models", 2024 (AKL). Choose it for few
    epochs: forward KL corrects the head of the distribution first, and reverse KL its tail.

    Args:
        head_mass: the teacher's probability mass in the head, in [0, 1].
        temperature: divides both logits, above 0.
        temperature_squared: multiply by ``temperature ** 2``.

    Raises:
        ValueError: a hyper-parameter is out of range.

    Example:
        >>> import torch
        >>> from kdlight.objectives import LossInputs
        >>> logits = torch.randn(4, 7)
        >>> AdaptiveKL()(LossInputs(logits, logits)).mean().item()
        0.0
    """

    def __init__(
        self, *, head_mass: float = 0.5, temperature: float = 1.0, temperature_squared: bool = True
    ) -> None:
        super().__init__(temperature=temperature, temperature_squared=temperature_squared)
        check_range("head_mass", head_mass, 0.0, 1.0)
        self.head_mass = float(head_mass)

    def divergence(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        """Compute the divergence of each row, ``(n, V), (n, V) -> (n,)``."""
        return losses.adaptive_kl(
            student, teacher, head_mass=self.head_mass, temperature=self.temperature
        )

    def divergence_and_grad(
        self, student: Tensor, teacher: Tensor, labels: Any
    ) -> tuple[Tensor, Tensor]:
        """Compute the divergence and its gradient."""
        check_range("head_mass", self.head_mass, 0.0, 1.0)  # a callback may have changed it
        return value_and_grad_both_kls.adaptive_kl(student, teacher, self.head_mass)
