"""The weighted average of the distributions of several sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor

from kdlight.losses.log_space import log_probs
from kdlight.sources.base import Index, LogitsSource


@dataclass(eq=False)
class Mixture(LogitsSource):
    """The weighted average of several distributions, as log-probabilities.

    Attributes:
        sources: the sources, over one vocabulary and the same positions.
        weights: the weight of each, in sum 1.
        names: the name of each.

    Example:
        >>> from kdlight import Dense
        >>> one, two = Dense(torch.tensor([[9.0, -9.0]])), Dense(torch.tensor([[-9.0, 9.0]]))
        >>> Mixture((one, two), (0.75, 0.25), ("one", "two")).logits().exp()
        tensor([[0.7500, 0.2500]])
    """

    sources: tuple[LogitsSource, ...]
    weights: tuple[float, ...]
    names: tuple[str, ...] = ()

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

    def select(self, index: Index) -> Mixture:
        """Return rows ``index`` of the flattened positions."""
        return replace(self, sources=tuple(source.select(index) for source in self.sources))

    def logits(self) -> Tensor:
        """Compute the log of the average, ``(..., V)``."""
        return self._average(lambda source: source.logits())

    def given_student(self, student: Tensor) -> Tensor:
        """Compute the log of the average, given the student's logits, ``(n, V) -> (n, V)``."""
        return self._average(lambda source: source.given_student(student))

    def _average(self, compute: Callable[[LogitsSource], Tensor]) -> Tensor:
        weighted = []
        for source, weight in zip(self.sources, self.weights, strict=True):
            log_p = log_probs(compute(source))
            log_weight = torch.tensor(weight, dtype=log_p.dtype).log().to(log_p.device)
            weighted.append(log_p + log_weight)
        return reduce(torch.logaddexp, weighted)


def widest_dtype(sources: tuple[LogitsSource, ...]) -> torch.dtype:
    """Return the dtype that all sources can be promoted to."""
    return reduce(torch.promote_types, (source.dtype for source in sources))
