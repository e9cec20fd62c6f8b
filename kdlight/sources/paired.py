"""Logits of two positions concatenated into one row, for losses on pairs of positions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdlight.sources.base import Dense, Index, LogitsSource
from kdlight.sources.projected import Projected


def pair_with_next(source: LogitsSource, first: Tensor) -> LogitsSource:
    """Concatenate rows ``first`` of a source ``(..., V)`` with the rows that follow: ``(n, 2V)``.

    `Dense` and `Projected` keep their type, so a pair can be evaluated in chunks like a row.

    Example:
        >>> pair_with_next(Dense(torch.zeros(2, 3, 5)), torch.tensor([0, 3])).shape
        torch.Size([2, 10])
    """
    left, right = source.select(first), source.select(first + 1)
    if isinstance(left, Dense) and isinstance(right, Dense):
        return Dense(torch.cat([left.tensor, right.tensor], -1))
    if isinstance(left, Projected) and isinstance(right, Projected):
        hidden = torch.cat([left.hidden, right.hidden], -1)
        if isinstance(left.head, nn.Module):
            return Projected(hidden, _PairHead(left.head, left.shape[-1]), left.transform)
    return Pair(left, right)


@dataclass(eq=False)
class Pair(LogitsSource):
    """Two sources ``(n, V)`` as one of ``(n, 2V)``.

    Example:
        >>> Pair(Dense(torch.zeros(1, 2)), Dense(torch.ones(1, 2))).logits()
        tensor([[0., 0., 1., 1.]])
    """

    left: LogitsSource
    right: LogitsSource

    @property
    def shape(self) -> torch.Size:
        """Shape ``(n, 2V)``."""
        return torch.Size([*self.left.shape[:-1], 2 * self.left.shape[-1]])

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the left source."""
        return self.left.dtype

    @property
    def device(self) -> torch.device:
        """Device of the left source."""
        return self.left.device

    def select(self, index: Index) -> Pair:
        """Return rows ``index``."""
        return Pair(self.left.select(index), self.right.select(index))

    def logits(self) -> Tensor:
        """Compute the logits of both."""
        return torch.cat([self.left.logits(), self.right.logits()], -1)


class _PairHead(nn.Module):
    """Applies a head to both halves of its input, (n, 2D) -> (n, 2V)."""

    def __init__(self, head: nn.Module, width: int) -> None:
        super().__init__()
        self.head = head
        self.out_features = 2 * width

    def forward(self, hidden: Tensor) -> Tensor:
        # one product for both, of a matrix, as a divided head does not take an empty stack of two
        logits = self.head(torch.cat(hidden.chunk(2, -1)))
        return torch.cat([logits[: len(hidden)], logits[len(hidden) :]], -1)
