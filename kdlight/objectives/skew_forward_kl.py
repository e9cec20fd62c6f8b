"""Skew forward KL: the student is mixed with a share of the teacher."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdlight import losses
from kdlight.checks import check_range
from kdlight.losses import value_and_grad, value_and_grad_mixtures
from kdlight.objectives.token_objective import Divergence


class SkewForwardKL(Divergence):
    """KL from the teacher to a mixture of student and teacher, `kdlight.losses.skew_forward_kl`.

    Ko, Kim, Chen, Yun, "DistiLLM: Towards Streamlined Distillation for Large Language Models",
    2024. Choose it if a few tokens that the student finds nearly impossible dominate the mean: the
    loss of a token is at most -log(skew), and its gradient is smaller than that of forward KL.

    Args:
        skew: weight of the teacher in the mixture, in [0, 1); 0 is forward KL.
        temperature: divides both logits, above 0.
        temperature_squared: multiply by ``temperature ** 2``.

    Raises:
        ValueError: a hyper-parameter is out of range.

    Example:
        >>> import torch
        >>> from kdlight.objectives import LossInputs
        >>> logits = torch.randn(4, 7)
        >>> SkewForwardKL()(LossInputs(logits, logits)).mean().item()
        0.0
    """

    def __init__(
        self, *, skew: float = 0.1, temperature: float = 1.0, temperature_squared: bool = True
    ) -> None:
        super().__init__(temperature=temperature, temperature_squared=temperature_squared)
        check_range("skew", skew, 0.0, 1.0, open_high=True)
        self.skew = float(skew)

    def divergence(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        """Compute the divergence of each row, ``(n, V), (n, V) -> (n,)``."""
        return losses.skew_forward_kl(
            student, teacher, skew=self.skew, temperature=self.temperature
        )

    def divergence_and_grad(
        self, student: Tensor, teacher: Tensor, labels: Any
    ) -> tuple[Tensor, Tensor]:
        """Compute the divergence and its gradient."""
        check_range("skew", self.skew, 0.0, 1.0, open_high=True)  # a callback may have changed it
        if self.skew == 0:
            return value_and_grad.forward_kl(student, teacher)
        return value_and_grad_mixtures.skew_forward_kl(student, teacher, self.skew)
