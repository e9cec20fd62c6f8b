"""What teachers do to a logits source: temper it, bring it to another device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from kdlight.logits import Dense, Index, LogitsSource, Projected
from kdlight.losses.log_space import widen
from kdlight.topk import TopK


def check_temperature(temperature: float) -> float:
    """The temperature as a float.

    Raises:
        ValueError: it is not above 0 and finite.
    """
    if not 0 < temperature < inf:
        raise ValueError(f"temperature must be above 0 and finite, got {temperature}")
    return float(temperature)


def tempered(source: LogitsSource, temperature: float) -> LogitsSource:
    """The same source with its logits divided by ``temperature``, made as late as before.

    Example:
        >>> tempered(Dense(torch.tensor([4.0, 2.0])), 2.0).logits()
        tensor([2., 1.])
    """
    if temperature == 1:
        return source
    if isinstance(source, TopK):
        return replace(source, temperature=source.temperature * temperature)
    if isinstance(source, Projected):
        return replace(source, transform=_Tempered(source.transform, temperature))
    return Dense(widen(source.logits()) / temperature)


@dataclass(frozen=True)
class _Tempered:
    transform: Any
    temperature: float

    def __call__(self, logits: Tensor) -> Tensor:
        logits = logits if self.transform is None else self.transform(logits)
        return widen(logits) / self.temperature


@dataclass(frozen=True)
class Moved:
    """A source that lives on one device and is asked for on another; only logits travel.

    Attributes:
        source: the source.
        home: its device.
        away: where its logits are wanted.
    """

    source: LogitsSource
    home: torch.device
    away: torch.device

    @property
    def shape(self) -> torch.Size:
        """Shape ``(..., V)``."""
        return self.source.shape

    def select(self, index: Index) -> Moved:
        """Rows ``index`` of the flattened positions; all for None."""
        index = index.to(self.home) if isinstance(index, Tensor) else index
        return replace(self, source=self.source.select(index))

    def logits(self) -> Tensor:
        """Make the logits at home and send them."""
        return self.source.logits().to(self.away)


def move(batch: Any, device: torch.device) -> Any:
    """``batch`` with its tensors on ``device``."""
    return tree_map(lambda each: each.to(device) if isinstance(each, Tensor) else each, batch)
