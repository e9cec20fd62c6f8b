"""The alpha-beta divergence: how much, and whose, likely tokens count."""

from __future__ import annotations

from math import isfinite
from typing import Any

from torch import Tensor

from kdlight import losses
from kdlight.objectives.token_objective import Divergence


class AlphaBeta(Divergence):
    """Alpha-beta divergence, `kdlight.losses.alpha_beta`.

    Wang et al., "ABKD: Pursuing a Proper Allocation of the Probability Mass in Knowledge
    Distillation via alpha-beta-Divergence", 2025. Choose it to tune between the KLs, which are
    (1, 0) and (0, 1), by two dials.

    Args:
        alpha: exponent of the teacher's probabilities, finite.
        beta: exponent of the student's probabilities, finite.
        temperature: divides both logits, above 0.
        temperature_squared: multiply by ``temperature ** 2``.

    Raises:
        ValueError: a number outside its range.

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
        for name, number in (("alpha", alpha), ("beta", beta)):
            if not isfinite(number):
                raise ValueError(f"{name} must be a finite number, got {number}")
        self.alpha = float(alpha)
        self.beta = float(beta)

    def divergence(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        """``(n, V), (n, V) -> (n,)``."""
        return losses.alpha_beta(
            student, teacher, alpha=self.alpha, beta=self.beta, temperature=self.temperature
        )
