"""The alpha-beta divergence, with an exponent for each of the two distributions."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdlight import losses
from kdlight.checks import check_finite
from kdlight.losses import value_and_grad_alpha_beta
from kdlight.objectives.token_objective import Divergence


class AlphaBeta(Divergence):
    """Alpha-beta divergence, `kdlight.losses.alpha_beta`.

    Wang et al., "ABKD: Pursuing a Proper Allocation of the Probability Mass in Knowledge
    Distillation via alpha-beta-Divergence", 2025. Choose it to interpolate between forward
    KL, (alpha, beta) = (1, 0), and reverse KL, (0, 1), with two hyper-parameters.

    Args:
        alpha: exponent of the teacher's probabilities, finite.
        beta: exponent of the student's probabilities, finite.
        temperature: divides both logits, above 0.
        temperature_squared: multiply by ``temperature ** 2``.

    Raises:
        ValueError: a hyper-parameter is out of range.

    Example:
        >>> import torch
        >>> from kdlight.objectives import LossInputs
        >>> logits = torch.randn(4, 7)
        >>> AlphaBeta()(LossInputs(logits, logits)).mean().item()
        0.0
    """

    def __init__(
        self,
        *,
        alpha: float = 0.2,
        beta: float = 0.7,
        temperature: float = 1.0,
        temperature_squared: bool = True,
    ) -> None:
        super().__init__(temperature=temperature, temperature_squared=temperature_squared)
        self.alpha = float(alpha)
        self.beta = float(beta)
        self._check_exponents()

    def divergence(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        """Compute the divergence of each row, ``(n, V), (n, V) -> (n,)``."""
        return losses.alpha_beta(
            student, teacher, alpha=self.alpha, beta=self.beta, temperature=self.temperature
        )

    def divergence_and_grad(
        self, student: Tensor, teacher: Tensor, labels: Any
    ) -> tuple[Tensor, Tensor] | None:
        """Compute the divergence and its gradient, or return None for other exponents."""
        self._check_exponents()  # a callback may have changed them
        if not 0 < self.alpha <= self.beta:
            return None
        return value_and_grad_alpha_beta.alpha_beta(student, teacher, self.alpha, self.beta)

    def _check_exponents(self) -> None:
        check_finite("alpha", self.alpha)
        check_finite("beta", self.beta)
