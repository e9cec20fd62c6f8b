"""Logits of another network as constants, without a graph back to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeGuard

import torch
from torch import Tensor, nn

from kdlight.sources.base import Dense, LogitsSource
from kdlight.sources.projected import Projected
from kdlight.sources.wrapped import Wrapped


@dataclass(eq=False)
class Detached(Wrapped):
    """Logits of any source, detached.

    Example:
        >>> Detached(Dense(torch.zeros(2, 5, requires_grad=True))).logits().requires_grad
        False
    """

    def logits(self) -> Tensor:
        """Compute the logits, ``(..., V)``, without a graph."""
        with torch.no_grad():
            return self.source.logits().detach()


def detached(source: LogitsSource) -> LogitsSource:
    """Detach the logits of ``source``; `Dense` and `Projected` keep their type.

    A `Projected` source can then still be evaluated in chunks.

    Example:
        >>> head = nn.Linear(4, 5)
        >>> source = detached(Projected(torch.zeros(2, 4, requires_grad=True), head))
        >>> type(source).__name__, source.logits().requires_grad
        ('Projected', False)
    """
    if isinstance(source, Dense):
        return Dense(source.tensor.detach())
    if isinstance(source, Projected) and _is_plain_linear(source.head):
        return replace(source, hidden=source.hidden.detach(), head=_frozen_head(source.head))
    return Detached(source)


def _is_plain_linear(head: object) -> TypeGuard[nn.Linear]:
    return type(head) is nn.Linear and not (head._forward_hooks or head._forward_pre_hooks)


def _frozen_head(head: nn.Linear) -> nn.Linear:
    """Return a head that shares the memory of the weights and takes no gradient."""
    frozen = nn.Linear(head.in_features, head.out_features, head.bias is not None, device="meta")
    for name, weight in head.named_parameters():
        setattr(frozen, name, nn.Parameter(weight.detach(), requires_grad=False))
    return frozen
