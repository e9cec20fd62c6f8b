"""A network's logits for others to learn from, without a way back to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeGuard

import torch
from torch import Tensor, nn

from kdlight.logits import Dense, Index, LogitsSource, Projected


@dataclass(frozen=True)
class Detached:
    """Logits of any source, as constants.

    Example:
        >>> Detached(Dense(torch.zeros(2, 5, requires_grad=True))).logits().requires_grad
        False
    """

    source: LogitsSource

    @property
    def shape(self) -> torch.Size:
        """Shape ``(..., V)`` of the logits."""
        return self.source.shape

    def select(self, index: Index) -> Detached:
        """Rows ``index`` of the flattened positions."""
        return Detached(self.source.select(index))

    def logits(self) -> Tensor:
        """Make the logits, ``(..., V)``, without a graph."""
        with torch.no_grad():
            return self.source.logits().detach()


def detached(source: LogitsSource) -> LogitsSource:
    """The same logits as constants; of the same kind where that lets them be made in chunks.

    Example:
        >>> head = nn.Linear(4, 5)
        >>> source = detached(Projected(torch.zeros(2, 4, requires_grad=True), head))
        >>> type(source).__name__, source.logits().requires_grad
        ('Projected', False)
    """
    if isinstance(source, Dense):
        return Dense(source.tensor.detach())
    if isinstance(source, Projected) and _is_plain(source.head):
        return replace(source, hidden=source.hidden.detach(), head=_frozen(source.head))
    return Detached(source)


def _is_plain(head: object) -> TypeGuard[nn.Linear]:
    return type(head) is nn.Linear and not (head._forward_hooks or head._forward_pre_hooks)


def _frozen(head: nn.Linear) -> nn.Linear:
    """A head with the same weights, the same memory, and no gradient."""
    frozen = nn.Linear(head.in_features, head.out_features, head.bias is not None, device="meta")
    for name, weight in head.named_parameters():
        setattr(frozen, name, nn.Parameter(weight.detach(), requires_grad=False))
    return frozen
