"""Symmetric KL: a weighted sum of both directions."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdlight import losses
from kdlight.checks import check_range
from kdlight.losses import value_and_grad_both_kls
from kdlight.objectives.token_objective import Divergence


class SymmetricKL(Divergence):
    """A weighted sum of forward and reverse KL, `kdlight.losses.symmetric_kl`.

    Jeffreys, "An Invariant Form for the Prior Probability in Estimation Problems", 1946. Choose it
    to balance mode-covering against mode-seeking with one hyper-parameter.

    Args:
        forward_weight: weight of forward KL, in [0, 1]; that of reverse KL is 1 minus it.
        temperature: divides both logits, above 0.
        temperature_squared: multiply by ``temperature ** 2``.

    Raises:
        ValueError: a hyper-parameter is out of range.

    Example:
        >>> import torch
        >>> from kdlight.objectives import LossInputs
        >>> logits = torch.randn(4, 7)
        >>> SymmetricKL()(LossInputs(logits, logits)).mean().item()
        0.0
    """

    def __init__(
        self,
        *,
        forward_weight: float = 0.5,
        temperature: float = 1.0,
        temperature_squared: bool = True,
    ) -> None:
        super().__init__(temperature=temperature, temperature_squared=temperature_squared)
        check_range("forward_weight", forward_weight, 0.0, 1.0)
        self.forward_weight = float(forward_weight)

    def divergence(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        """Compute the divergence of each row, ``(n, V), (n, V) -> (n,)``."""
        return losses.symmetric_kl(
            student, teacher, forward_weight=self.forward_weight, temperature=self.temperature
        )

    def divergence_and_grad(
        self, student: Tensor, teacher: Tensor, labels: Any
    ) -> tuple[Tensor, Tensor]:
        """Compute the divergence and its gradient."""
        check_range("forward_weight", self.forward_weight, 0.0, 1.0)  # a callback may change it
        return value_and_grad_both_kls.symmetric_kl(student, teacher, self.forward_weight)
