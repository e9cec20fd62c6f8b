"""Weights of several sources that differ from position to position."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from kdlight.losses.labels import IGNORE_INDEX
from kdlight.sources.base import Index, select_rows


class PositionWeights(ABC):
    """The weights of K sources at each position, from their log-probabilities there.

    A class of your own should be a dataclass, like a source.

    Attributes:
        reads_labels: whether the weights depend on the labels, which a prediction does not have.

    Example:
        >>> issubclass(EntropyWeights, PositionWeights), EntropyWeights.reads_labels
        (True, False)
    """

    reads_labels = False

    def select(self, index: Index) -> PositionWeights:
        """Return the weights at rows ``index`` of the flattened positions."""
        return self

    @abstractmethod
    def __call__(self, log_probs: Sequence[Tensor]) -> Tensor:
        """Compute weights ``(..., K)`` in sum 1, from K log-probabilities ``(..., V)``."""


@dataclass(eq=False)
class GivenWeights(PositionWeights):
    """Weights that are known beforehand.

    Attributes:
        weights: ``(..., K)``, in sum 1.

    Example:
        >>> given = GivenWeights(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
        >>> given.select(torch.tensor([1]))([torch.zeros(1, 3), torch.zeros(1, 3)])
        tensor([[0.5000, 0.5000]])
    """

    weights: Tensor

    def select(self, index: Index) -> GivenWeights:
        """Return the weights at rows ``index`` of the flattened positions."""
        index = index.to(self.weights.device) if isinstance(index, Tensor) else index
        return GivenWeights(select_rows(self.weights, index))

    def __call__(self, log_probs: Sequence[Tensor]) -> Tensor:
        """Return the weights."""
        return self.weights.to(log_probs[0].device)


@dataclass(eq=False)
class ConfidenceWeights(PositionWeights):
    r"""Weights by the cross-entropy of each source with the label.

    .. math:: w_k = \frac{1}{K - 1} \Big(1 - \frac{\exp c_k}{\sum_j \exp c_j}\Big),
        \qquad c_k = -\log p_k(y)

    Of two sources, each has its share of the sum of both probabilities of the label. Of K, none has
    more than 1 / (K - 1). A source that gives the label no probability has weight 0, unless others
    do the same. Where the label is -100, all have the same weight.

    Zhang, Chen, Wang, "Confidence-Aware Multi-Teacher Knowledge Distillation", 2022, whose code
    weighs the losses of the teachers in this way and divides them by K once more.

    Attributes:
        labels: aligned labels ``(...)``, -100 at invalid positions.

    Example:
        >>> one, two = torch.tensor([[0.6, 0.4]]).log(), torch.tensor([[0.2, 0.8]]).log()
        >>> ConfidenceWeights(torch.tensor([0]))([one, two])
        tensor([[0.7500, 0.2500]])
    """

    labels: Tensor
    reads_labels = True

    def select(self, index: Index) -> ConfidenceWeights:
        """Return the weights at rows ``index`` of the flattened positions."""
        index = index.to(self.labels.device) if isinstance(index, Tensor) else index
        return ConfidenceWeights(select_rows(self.labels.unsqueeze(-1), index).squeeze(-1))

    def __call__(self, log_probs: Sequence[Tensor]) -> Tensor:
        """Compute the weights, ``(..., K)``."""
        labels = self.labels.to(log_probs[0].device)
        valid = labels != IGNORE_INDEX
        ids = labels.where(valid, 0).unsqueeze(-1)
        costs = stack_last([-log_p.gather(-1, ids).squeeze(-1) for log_p in log_probs])
        # the limit of the softmax as a cost grows: of infinite ones it would be NaN
        costs = costs.clamp(max=torch.finfo(costs.dtype).max)
        return _complements(costs.where(valid.unsqueeze(-1), 0.0).softmax(-1))


@dataclass(eq=False)
class EntropyWeights(PositionWeights):
    r"""Weights by the entropy of each source: one that is surer has more.

    .. math:: w_k = \frac{1}{K - 1} \Big(1 - \frac{H_k}{\sum_j H_j}\Big)

    Of two sources, the weights are as the inverse entropies. Where all entropies are 0, all have
    the same weight.

    Kwon, Na, Lee, Kim, "Adaptive Knowledge Distillation Based on Entropy", 2020, as the code of
    Zhang, Chen, Wang, "Confidence-Aware Multi-Teacher Knowledge Distillation", 2022 has it; there
    the weights are not divided by K - 1.

    Example:
        >>> sure, unsure = torch.tensor([[1.0, 0.0]]).log(), torch.tensor([[0.5, 0.5]]).log()
        >>> EntropyWeights()([sure, unsure])
        tensor([[1., 0.]])
    """

    def __call__(self, log_probs: Sequence[Tensor]) -> Tensor:
        """Compute the weights, ``(..., K)``."""
        entropies = stack_last([torch.special.entr(log_p.exp()).sum(-1) for log_p in log_probs])
        total = entropies.sum(-1, keepdim=True)
        shares = entropies / total.clamp(min=torch.finfo(total.dtype).tiny)
        return _complements(shares.where(total > 0, 1 / entropies.shape[-1]))


def _complements(shares: Tensor) -> Tensor:
    """Turn shares in sum 1 into weights in sum 1, the larger the smaller the share."""
    others = shares.shape[-1] - 1
    return (1 - shares) / others if others else torch.ones_like(shares)


def stack_last(values: Sequence[Tensor]) -> Tensor:
    """Stack K tensors ``(...)`` of any floating dtype to ``(..., K)`` of the widest.

    Example:
        >>> stack_last([torch.zeros(2), torch.ones(2).double()]).dtype
        torch.float64
    """
    wide = reduce(torch.promote_types, (value.dtype for value in values))
    return torch.stack([value.to(wide) for value in values], -1)
