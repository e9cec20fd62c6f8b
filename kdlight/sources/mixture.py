"""The weighted average of the distributions of several sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

import torch
from torch import Tensor

from kdlight.losses.device_numbers import numbers_like
from kdlight.losses.log_space import log_probs
from kdlight.sources.base import Index, LogitsSource
from kdlight.sources.position_weights import PositionWeights
from kdlight.sources.weight_sums import WeightSums


@dataclass(eq=False)
class Mixture(LogitsSource):
    """The weighted average of several distributions, as log-probabilities.

    Weights that differ from position to position are computed where the logits are, a chunk at a
    time. They are constants: no gradient goes through them.

    Attributes:
        sources: the sources, over one vocabulary and the same positions.
        weights: the weight of each, in sum 1; or `PositionWeights`.
        names: the name of each.
        sums: the weights that were used, of this source and of all rows that are selected from it.

    Example:
        >>> from kdlight import Dense
        >>> one, two = Dense(torch.tensor([[9.0, -9.0]])), Dense(torch.tensor([[-9.0, 9.0]]))
        >>> Mixture((one, two), (0.75, 0.25), ("one", "two")).logits().exp()
        tensor([[0.7500, 0.2500]])
    """

    sources: tuple[LogitsSource, ...]
    weights: tuple[float, ...] | PositionWeights
    names: tuple[str, ...] = ()
    sums: WeightSums = field(default_factory=WeightSums)

    @property
    def shape(self) -> torch.Size:
        """Shape ``(..., V)``."""
        return self.sources[0].shape

    @property
    def dtype(self) -> torch.dtype:
        """The widest dtype of the sources."""
        return widest_dtype(self.sources)

    @property
    def device(self) -> torch.device:
        """Device of the first source."""
        return self.sources[0].device

    @property
    def parts(self) -> Mapping[str, LogitsSource]:
        """The sources by name."""
        return dict(zip(self.names, self.sources, strict=False))

    @property
    def shares(self) -> Mapping[str, Tensor]:
        """The mean weight of each source by name, over the positions that were evaluated."""
        means = self.sums.means()
        return {} if means is None else dict(zip(self.names, means.unbind(), strict=False))

    @property
    def weight_sums(self) -> WeightSums:
        """What `shares` are computed from."""
        return self.sums

    def select(self, index: Index) -> Mixture:
        """Return rows ``index`` of the flattened positions."""
        weights = self.weights
        if isinstance(weights, PositionWeights):
            weights = weights.select(index)
        sources = tuple(source.select(index) for source in self.sources)
        return replace(self, sources=sources, weights=weights)

    def logits(self) -> Tensor:
        """Compute the log of the average, ``(..., V)``."""
        return self._average([source.logits() for source in self.sources])

    def given_student(self, student: Tensor) -> Tensor:
        """Compute the log of the average, given the student's logits, ``(n, V) -> (n, V)``."""
        return self._average([source.given_student(student) for source in self.sources])

    def without_labels(self) -> Mixture:
        """Return the average with equal weights, where the weights read the labels."""
        sources = tuple(source.without_labels() for source in self.sources)
        if isinstance(self.weights, PositionWeights) and self.weights.reads_labels:
            return Mixture(sources, (1 / len(sources),) * len(sources), self.names)
        is_same = all(a is b for a, b in zip(sources, self.sources, strict=True))
        return self if is_same else replace(self, sources=sources, sums=WeightSums())

    def position_weights(self, log_probs: Sequence[Tensor]) -> Tensor:
        """Compute the weights ``(..., K)``, given the sources' log-probabilities ``(..., V)``."""
        if isinstance(self.weights, PositionWeights):
            return self.weights([each.detach() for each in log_probs]).detach()
        first = log_probs[0]
        weights = numbers_like(self.weights, first)
        return weights.expand(*first.shape[:-1], len(self.weights))

    def _average(self, logits: Sequence[Tensor]) -> Tensor:
        log_p = [log_probs(each) for each in logits]
        weights = self.position_weights(log_p)
        self.sums.add(weights)
        return mix(log_p, weights)


def mix(log_probs: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Compute the log of a weighted average, K times ``(..., V)`` and ``(..., K) -> (..., V)``.

    Example:
        >>> certain, even = torch.tensor([[1.0, 0.0]]).log(), torch.tensor([[0.5, 0.5]]).log()
        >>> mix([certain, even], torch.tensor([[0.5, 0.5]])).exp()
        tensor([[0.7500, 0.2500]])
    """
    weighted = [
        log_p + weight.log().to(log_p.dtype).unsqueeze(-1)
        for log_p, weight in zip(log_probs, weights.unbind(-1), strict=True)
    ]
    return reduce(torch.logaddexp, weighted)


def widest_dtype(sources: tuple[LogitsSource, ...]) -> torch.dtype:
    """Return the dtype that all sources can be promoted to."""
    return reduce(torch.promote_types, (source.dtype for source in sources))
