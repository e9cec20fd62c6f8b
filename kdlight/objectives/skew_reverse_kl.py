"""Skew reverse KL: the teacher is mixed with a share of the student."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdlight import losses
from kdlight.checks import check_range
from kdlight.losses import value_and_grad, value_and_grad_mixtures
from kdlight.objectives.token_objective import Divergence


class SkewReverseKL(Divergence):
    """KL from the student to a mixture of teacher and student, `kdlight.losses.skew_reverse_kl`.

    Ko, Kim, Chen, Yun, "DistiLLM: Towards Streamlined Distillation for Large Language Models",
    2024. Choose it for a mode-seeking loss without the large gradients of reverse KL where the
    teacher's probability is close to 0.

    Args:
        skew: weight of the student in the mixture, in [0, 1); 0 is reverse KL.
        temperature: divides both logits, above 0.
        temperature_squared: multiply by ``temperature ** 2``.

    Raises:
        ValueError: a hyper-parameter is out of range.

    Example:
        >>> import torch
        >>> from kdlight.objectives import LossInputs
        >>> logits = torch.randn(4, 7)
        >>> SkewReverseKL()(LossInputs(logits, logits)).mean().item()
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
        return losses.skew_reverse_kl(
            student, teacher, skew=self.skew, temperature=self.temperature
        )

    def divergence_and_grad(
        self, student: Tensor, teacher: Tensor, labels: Any
    ) -> tuple[Tensor, Tensor]:
        """Compute the divergence and its gradient."""
        check_range("skew", self.skew, 0.0, 1.0, open_high=True)  # a callback may have changed it
        if self.skew == 0:
            return value_and_grad.reverse_kl(student, teacher)
        return value_and_grad_mixtures.skew_reverse_kl(student, teacher, self.skew)
