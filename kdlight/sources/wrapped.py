"""A source that changes the logits of another one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from kdlight.sources.base import Index, LogitsSource

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(eq=False)
class Wrapped(LogitsSource):
    """A source with the positions of another one; a subclass computes the logits.

    Attributes:
        source: the other source.

    Example:
        >>> from kdlight import Dense
        >>> from kdlight.sources import Detached
        >>> Detached(Dense(torch.zeros(2, 3, 5))).select(torch.tensor([0, 4])).shape
        torch.Size([2, 5])
    """

    source: LogitsSource

    @property
    def shape(self) -> torch.Size:
        """Shape ``(..., V)``."""
        return self.source.shape

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the source."""
        return self.source.dtype

    @property
    def device(self) -> torch.device:
        """Device of the source."""
        return self.source.device

    def select(self, index: Index) -> Self:
        """Return rows ``index`` of the flattened positions."""
        return replace(self, source=self.source.select(index))
