"""Jensen-Shannon: bounded, between forward and reverse KL."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdlight import losses
from kdlight.losses import gradients
from kdlight.losses.checks import check_range
from kdlight.objectives.token_objective import Divergence


class JensenShannon(Divergence):
    """Generalised Jensen-Shannon divergence, `kdlight.losses.jensen_shannon`.

    Agarwal et al., "On-Policy Distillation of Language Models: Learning from Self-Generated
    Mistakes", 2024, eq. (1). Choose it where a KL is thrown by a few positions on which student and
    teacher have little in common.

    Args:
        beta: weight of the teacher in the mixture, in [0, 1]; 0 is forward KL, 1 reverse KL.
        temperature: divides both logits, above 0.
        temperature_squared: multiply by ``temperature ** 2``.

    Raises:
        ValueError: a number outside its range.

    Example:
        >>> import torch
        >>> from kdlight.objectives import LossInputs
        >>> logits = torch.randn(4, 7)
        >>> JensenShannon()(LossInputs(logits, logits)).mean().item()
        0.0
    """

    def __init__(
        self, *, beta: float = 0.5, temperature: float = 1.0, temperature_squared: bool = True
    ) -> None:
        super().__init__(temperature=temperature, temperature_squared=temperature_squared)
        check_range("beta", beta, 0.0, 1.0)
        self.beta = float(beta)

    def divergence(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        """``(n, V), (n, V) -> (n,)``."""
        return losses.jensen_shannon(student, teacher, beta=self.beta, temperature=self.temperature)

    def divergence_and_grad(
        self, student: Tensor, teacher: Tensor, labels: Any
    ) -> tuple[Tensor, Tensor] | None:
        """Compute the divergence and its gradient."""
        if self.beta in (0.0, 1.0):
            end = gradients.reverse_kl if self.beta else gradients.forward_kl
            return end(student, teacher)
        return gradients.jensen_shannon(student, teacher, self.beta)
