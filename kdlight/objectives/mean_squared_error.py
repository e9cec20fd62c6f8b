"""The mean squared error of outputs."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdlight import losses
from kdlight.losses.value_and_grad import dot
from kdlight.objectives.token_objective import TokenObjective


class MeanSquaredError(TokenObjective):
    """Squared difference of the outputs, `kdlight.losses.mean_squared_error`.

    Ba, Caruana, "Do Deep Nets Really Need to be Deep?", 2014. Choose it to distill a regression,
    also one with a single output; or a classifier by its logits.

    Example:
        >>> import torch
        >>> from kdlight.objectives import LossInputs
        >>> MeanSquaredError()(LossInputs(torch.zeros(4, 1), torch.full((4, 1), 3.0))).mean()
        tensor(9.)
    """

    uses_probabilities = False

    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        """Compute the error of each row, ``(n, V), (n, V) -> (n,)``."""
        return losses.mean_squared_error(student, teacher)

    def value_and_grad(self, student: Tensor, teacher: Any, labels: Any) -> tuple[Tensor, Tensor]:
        """Compute the error and its gradient."""
        difference = student - teacher
        width = student.shape[-1]
        return dot(difference, difference).div_(width), difference.mul_(2 / width)
