"""Forward KL, which makes the student cover all modes of the teacher."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdlight import losses
from kdlight.losses import value_and_grad
from kdlight.objectives.token_objective import Divergence


class ForwardKL(Divergence):
    """KL from the teacher to the student, `kdlight.losses.forward_kl`.

    Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015. The standard
    objective. Choose it if the student should cover every mode of the teacher.

    Example:
        >>> import torch
        >>> from kdlight.objectives import LossInputs
        >>> logits = torch.randn(4, 7)
        >>> ForwardKL(temperature=2.0)(LossInputs(logits, logits)).mean().item()
        0.0
    """

    def divergence(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        """Compute the divergence of each row, ``(n, V), (n, V) -> (n,)``."""
        return losses.forward_kl(student, teacher, temperature=self.temperature)

    def divergence_and_grad(
        self, student: Tensor, teacher: Tensor, labels: Any
    ) -> tuple[Tensor, Tensor]:
        """Compute the divergence and its gradient."""
        return value_and_grad.forward_kl(student, teacher)
