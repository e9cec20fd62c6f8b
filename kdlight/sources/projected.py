"""Logits as hidden states and the output head that projects them onto the vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kdlight.sources.base import Index, LogitsSource, select_rows


@dataclass(eq=False)
class Projected(LogitsSource):
    """Hidden states ``(..., D)`` and an output head ``D -> V``.

    The head stays where it is (a `torch.nn.Linear` inside a model that may be sharded) and is
    applied only to the positions that are selected. ``transform`` is what a model does to every
    logit after its head, such as a scale or a soft-cap.

    Example:
        >>> source = Projected(torch.zeros(2, 3, 4), torch.nn.Linear(4, 5))
        >>> source.shape, source.select(torch.tensor([1])).logits().shape
        (torch.Size([2, 3, 5]), torch.Size([1, 5]))
    """

    hidden: Tensor
    head: Callable[[Tensor], Tensor]
    transform: Callable[[Tensor], Tensor] | None = None

    @property
    def shape(self) -> torch.Size:
        """Shape ``(..., V)`` of the logits, where V is the head's ``out_features`` or its rows."""
        vocabulary = getattr(self.head, "out_features", None) or self.head.weight.shape[0]  # type: ignore[attr-defined]
        return torch.Size([*self.hidden.shape[:-1], vocabulary])

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the hidden states."""
        return self.hidden.dtype

    @property
    def device(self) -> torch.device:
        """Device of the hidden states."""
        return self.hidden.device

    def select(self, index: Index) -> Projected:
        """Return rows ``index`` of the flattened positions; the head is not applied yet."""
        return replace(self, hidden=select_rows(self.hidden, index))

    def logits(self) -> Tensor:
        """Apply the head and the transform, ``(..., D) -> (..., V)``."""
        logits = self.head(self.hidden)
        return logits if self.transform is None else self.transform(logits)
