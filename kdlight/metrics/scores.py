"""Proper scoring rules: the true probabilities have the best expected score."""

from __future__ import annotations

import torch
from torch import Tensor

from kdlight import losses
from kdlight.losses.labels import IGNORE_INDEX, check_labels
from kdlight.losses.log_space import probs
from kdlight.metrics.precision import PreciseMetric


def brier(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Compute the squared distance of probabilities from the label, (..., V), (...) -> (...).

    .. math:: \sum_v (q_v - 1[v = y])^2 = \sum_v q_v^2 - 2 q_y + 1

    Example:
        >>> brier(torch.zeros(2), torch.tensor(0))
        tensor(0.5000)
    """
    q = probs(logits)
    label_probs = q.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    return q.square().sum(-1) - 2 * label_probs + 1


class Score(PreciseMetric):
    """The base class of scores: a mean over the positions whose label is not -100."""

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "count"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def score(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the score of each row, ``(n, V), (n,) -> (n,)``."""
        raise NotImplementedError(f"{type(self).__name__} does not define score()")

    @torch.no_grad()
    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add positions, by their logits ``(..., V)`` and labels ``(...)``."""
        check_labels(logits, labels)
        valid = labels != IGNORE_INDEX
        self.total += self.score(logits[valid], labels[valid]).sum(dtype=torch.float64)
        self.count += valid.sum()

    def compute(self) -> Tensor:
        """Return the mean; 0 without positions."""
        return (self.total / self.count.clamp(min=1)).float()


class BrierScore(Score):
    """Mean squared distance of the probabilities from the label, in [0, 2].

    Brier, "Verification of forecasts expressed in terms of probability", 1950.

    Example:
        >>> metric = BrierScore()
        >>> metric.update(torch.zeros(3, 2), torch.tensor([0, 1, -100]))
        >>> metric.compute()
        tensor(0.5000)
    """

    def score(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the score of each row, ``(n, V), (n,) -> (n,)``."""
        return brier(logits, labels)


class NegativeLogLikelihood(Score):
    """Mean negative log-likelihood of the labels, `kdlight.losses.cross_entropy`.

    Example:
        >>> metric = NegativeLogLikelihood()
        >>> metric.update(torch.zeros(3, 2), torch.tensor([0, 1, -100]))
        >>> metric.compute()
        tensor(0.6931)
    """

    def score(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the score of each row, ``(n, V), (n,) -> (n,)``."""
        return losses.cross_entropy(logits, labels)
