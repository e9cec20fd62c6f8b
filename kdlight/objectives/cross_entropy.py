"""Cross-entropy with the labels: learning from data, beside or without a teacher."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdlight import losses
from kdlight.losses import slopes
from kdlight.losses.cross_entropy import IGNORED
from kdlight.objectives.by_token import TokenObjective


class CrossEntropy(TokenObjective):
    """Negative log-likelihood of the labels, `kdlight.losses.cross_entropy`; needs no teacher.

    Fisher, "On the Mathematical Foundations of Theoretical Statistics", 1922 (maximum likelihood).
    Choose it beside a divergence, for what the data know and the teacher does not.

    Example:
        >>> import torch
        >>> from kdlight.objectives import Step
        >>> step = Step(torch.zeros(3, 4), labels=torch.tensor([0, 1, 2]))
        >>> round(CrossEntropy()(step).mean().item(), 4)
        1.3863
    """

    needs_teacher = False
    needs_labels = True

    def rows(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        """``(n, V), None, (n,) -> (n,)``."""
        return losses.cross_entropy(student, labels)

    def closed_form(
        self, student: Tensor, teacher: Any, labels: Any
    ) -> tuple[Tensor, Tensor] | None:
        """The same with its slopes; None where a label is -100."""
        return None if (labels == IGNORED).any() else slopes.cross_entropy(student, labels)
