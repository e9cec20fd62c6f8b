"""Jensen-Shannon divergence: bounded, and between forward and reverse KL."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdlight import losses
from kdlight.checks import check_range
from kdlight.losses import value_and_grad
from kdlight.objectives.token_objective import Divergence


class JensenShannon(Divergence):
    """Generalised Jensen-Shannon divergence, `kdlight.losses.jensen_shannon`.

    Agarwal et al., "On-Policy Distillation of Language Models: Learning from Self-Generated
    Mistakes", 2024, eq. (1). Choose it if a few positions where student and teacher disagree
    strongly dominate a KL.

    Args:
        beta: weight of the teacher in the mixture, in [0, 1]; 0 is forward KL, 1 reverse KL.
        temperature: divides both logits, above 0.
        temperature_squared: multiply by ``temperature ** 2``.

    Raises:
        ValueError: a hyper-parameter is out of range.

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
        """Compute the divergence of each row, ``(n, V), (n, V) -> (n,)``."""
        return losses.jensen_shannon(student, teacher, beta=self.beta, temperature=self.temperature)

    def divergence_and_grad(
        self, student: Tensor, teacher: Tensor, labels: Any
    ) -> tuple[Tensor, Tensor] | None:
        """Compute the divergence and its gradient."""
        check_range("beta", self.beta, 0.0, 1.0)  # a callback may have changed it
        if self.beta in (0.0, 1.0):
            kl = value_and_grad.reverse_kl if self.beta else value_and_grad.forward_kl
            return kl(student, teacher)
        return value_and_grad.jensen_shannon(student, teacher, self.beta)
