"""Cross-entropy with the labels: supervised training, with or without a teacher."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdlight import losses
from kdlight.checks import can_read
from kdlight.losses import value_and_grad
from kdlight.losses.labels import IGNORE_INDEX
from kdlight.objectives.token_objective import TokenObjective


class CrossEntropy(TokenObjective):
    """Negative log-likelihood of the labels, `kdlight.losses.cross_entropy`; needs no teacher.

    Fisher, "On the Mathematical Foundations of Theoretical Statistics", 1922 (maximum likelihood).
    Choose it as a term next to a divergence, to learn from the data what the teacher does not know.

    Example:
        >>> import torch
        >>> from kdlight.objectives import LossInputs
        >>> inputs = LossInputs(torch.zeros(3, 4), labels=torch.tensor([0, 1, 2]))
        >>> round(CrossEntropy()(inputs).mean().item(), 4)
        1.3863
    """

    needs = frozenset({"labels"})

    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        """Compute the loss of each row, ``(n, V), None, (n,) -> (n,)``."""
        return losses.cross_entropy(student, labels)

    def value_and_grad(
        self, student: Tensor, teacher: Any, labels: Any
    ) -> tuple[Tensor, Tensor] | None:
        """Compute the loss and its gradient, or return None where a label may be -100."""
        if not can_read(labels) or bool((labels == IGNORE_INDEX).any()):
            return None
        return value_and_grad.cross_entropy(student, labels)
