"""Logits of two positions side by side, as one row of a logits source."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdlight.logits import Dense, Index, LogitsSource, Projected


def side_by_side(source: LogitsSource, first: Tensor) -> LogitsSource:
    """Rows ``first`` and those behind them of a source of ``(..., V)``, as one of ``(n, 2V)``.

    Dense stays dense, and projected projected: what can be evaluated in chunks still can.

    Example:
        >>> side_by_side(Dense(torch.zeros(2, 3, 5)), torch.tensor([0, 3])).shape
        torch.Size([2, 10])
    """
    one, other = source.select(first), source.select(first + 1)
    if isinstance(one, Dense) and isinstance(other, Dense):
        return Dense(torch.cat([one.tensor, other.tensor], -1))
    if isinstance(one, Projected) and isinstance(other, Projected):
        hidden = torch.cat([one.hidden, other.hidden], -1)
        if isinstance(one.head, nn.Module):
            return Projected(hidden, _PairHead(one.head, one.shape[-1]), one.transform)
    return Pair(one, other)


@dataclass(frozen=True)
class Pair:
    """Two sources of ``(n, V)`` as one of ``(n, 2V)``."""

    one: LogitsSource
    other: LogitsSource

    @property
    def shape(self) -> torch.Size:
        """Shape ``(n, 2V)``."""
        return torch.Size([*self.one.shape[:-1], 2 * self.one.shape[-1]])

    def select(self, index: Index) -> Pair:
        """Rows ``index``; all for None."""
        return Pair(self.one.select(index), self.other.select(index))

    def logits(self) -> Tensor:
        """Make both."""
        return torch.cat([self.one.logits(), self.other.logits()], -1)


class _PairHead(nn.Module):
    """A head that is applied to both halves of its input, (n, 2D) -> (n, 2V)."""

    def __init__(self, head: nn.Module, width: int) -> None:
        super().__init__()
        self.head = head
        self.out_features = 2 * width

    def forward(self, hidden: Tensor) -> Tensor:
        halves = torch.stack(hidden.chunk(2, -1))  # one product for both
        return torch.cat(list(self.head(halves)), -1)
