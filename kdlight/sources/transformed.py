"""Logits that are changed after they are computed: masked columns, another device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kdlight.sources.base import Dense, Index, LogitsSource
from kdlight.sources.projected import Projected
from kdlight.sources.wrapped import Wrapped

Transform = Callable[[Tensor], Tensor]


def masked_columns(source: LogitsSource, columns: Tensor) -> LogitsSource:
    """Set ``columns`` ``(S,)`` of the vocabulary to -inf, which is outside of it for every loss.

    Example:
        >>> masked_columns(Dense(torch.zeros(1, 2)), torch.tensor([1])).logits()
        tensor([[0., -inf]])
    """
    if not len(columns):
        return source
    if isinstance(source, Projected):
        return replace(source, transform=_MaskColumns(source.transform, columns))
    return Dense(_MaskColumns(None, columns)(source.logits()))


@dataclass(eq=False)
class _MaskColumns:
    before: Transform | None
    columns: Tensor

    def __call__(self, logits: Tensor) -> Tensor:
        logits = logits if self.before is None else self.before(logits)
        return logits.index_fill(-1, self.columns.to(logits.device), -torch.inf)


@dataclass(eq=False)
class Moved(Wrapped):
    """A source whose logits are computed on one device and used on another.

    Attributes:
        source: the source.
        source_device: where its logits are computed.
        target_device: where its logits are used.

    Example:
        >>> cpu, meta = torch.device("cpu"), torch.device("meta")
        >>> Moved(Dense(torch.zeros(2, 3)), cpu, meta).logits().device
        device(type='meta')
    """

    source_device: torch.device
    target_device: torch.device

    @property
    def device(self) -> torch.device:
        """Where the logits are used."""
        return self.target_device

    def select(self, index: Index) -> Moved:
        """Return rows ``index`` of the flattened positions."""
        index = index.to(self.source_device) if isinstance(index, Tensor) else index
        return replace(self, source=self.source.select(index))

    def logits(self) -> Tensor:
        """Compute the logits and move them."""
        return self.source.logits().to(self.target_device)
