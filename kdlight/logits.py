"""Where logits come from: a tensor that exists, or hidden states and the head that would make it.

A source stands for logits of shape ``(..., V)``. Everything above this room asks a source for rows
and never for the way they were made, so a method is written once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class LogitsSource(Protocol):
    """Logits ``(..., V)`` that may not exist yet."""

    @property
    def shape(self) -> torch.Size:
        """Shape ``(..., V)`` of the logits that the source stands for."""
        ...

    def select(self, index: Tensor | None) -> LogitsSource:
        """Rows ``index`` of the flattened positions, as a source of ``(n, V)``; all for None."""
        ...

    def logits(self) -> Tensor:
        """Make the logits, ``(..., V)``."""
        ...


@dataclass(frozen=True)
class Dense:
    """Logits ``(..., V)`` that exist.

    Example:
        >>> Dense(torch.zeros(2, 3, 5)).select(torch.tensor([0, 4])).logits().shape
        torch.Size([2, 5])
    """

    tensor: Tensor

    @property
    def shape(self) -> torch.Size:
        """Shape ``(..., V)``."""
        return self.tensor.shape

    def select(self, index: Tensor | None) -> Dense:
        """Rows ``index`` of the flattened positions, ``(n, V)``; all for None."""
        return Dense(_rows(self.tensor, index))

    def logits(self) -> Tensor:
        """The tensor itself."""
        return self.tensor


@dataclass(frozen=True)
class Projected:
    """Hidden states ``(..., D)`` and the output head ``D -> V`` that makes logits of them.

    The head stays with its owner (a `torch.nn.Linear` inside a model that may be sharded), and is
    applied only to the positions that are asked for.

    Example:
        >>> source = Projected(torch.zeros(2, 3, 4), torch.nn.Linear(4, 5))
        >>> source.shape, source.select(torch.tensor([1])).logits().shape
        (torch.Size([2, 3, 5]), torch.Size([1, 5]))
    """

    hidden: Tensor
    head: Callable[[Tensor], Tensor]

    @property
    def shape(self) -> torch.Size:
        """Shape ``(..., V)`` of the logits, read off the head's ``out_features`` or weight."""
        vocabulary = getattr(self.head, "out_features", None) or self.head.weight.shape[0]  # type: ignore[attr-defined]
        return torch.Size([*self.hidden.shape[:-1], vocabulary])

    def select(self, index: Tensor | None) -> Projected:
        """Rows ``index`` of the flattened positions; the head is not applied yet."""
        return Projected(_rows(self.hidden, index), self.head)

    def logits(self) -> Tensor:
        """Apply the head, ``(..., D) -> (..., V)``."""
        return self.head(self.hidden)


Logits: TypeAlias = "LogitsSource | Tensor"


def as_source(logits: Logits) -> LogitsSource:
    """A tensor becomes `Dense`; a source stays what it is."""
    if isinstance(logits, Tensor):
        return Dense(logits)
    if isinstance(logits, LogitsSource):
        return logits
    raise TypeError(
        f"expected logits as a tensor (..., V) or a logits source such as Dense or Projected, got"
        f" {type(logits).__name__}; a Hugging Face output is not logits: return `output.logits`"
    )


def _rows(tensor: Tensor, index: Tensor | None) -> Tensor:
    # the size is spelled out because -1 is ambiguous for a tensor without positions
    rows = tensor.reshape(prod(tensor.shape[:-1]), tensor.shape[-1])
    return rows if index is None else rows.index_select(0, index)
