"""ToDi: forward and reverse KL with a weight per vocabulary entry."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdlight import losses
from kdlight.losses import value_and_grad_both_kls
from kdlight.objectives.token_objective import Divergence


class ToDi(Divergence):
    """Token-wise divergence control, `kdlight.losses.todi`.

    Jung, Yoon, Kim, Lee, "ToDi: Token-wise Distillation via Fine-Grained Divergence Control", 2025.
    Choose it for a balance of forward and reverse KL without a hyper-parameter: forward KL raises
    the entries that the student underestimates, reverse KL lowers those that it overestimates.

    Example:
        >>> import torch
        >>> from kdlight.objectives import LossInputs
        >>> logits = torch.randn(4, 7)
        >>> ToDi()(LossInputs(logits, logits)).mean().item()
        0.0
    """

    def divergence(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        """Compute the divergence of each row, ``(n, V), (n, V) -> (n,)``."""
        return losses.todi(student, teacher, temperature=self.temperature)

    def divergence_and_grad(
        self, student: Tensor, teacher: Tensor, labels: Any
    ) -> tuple[Tensor, Tensor]:
        """Compute the divergence and its gradient."""
        return value_and_grad_both_kls.todi(student, teacher)
