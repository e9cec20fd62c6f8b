"""Where logits come from: a tensor that exists, or hidden states and the head that would make it.

A source stands for logits of shape ``(..., V)``. Everything above this room asks a source for rows
and never for the way they were made, so a method is written once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

Index: TypeAlias = "Tensor | slice | None"


@runtime_checkable
class LogitsSource(Protocol):
    """Logits ``(..., V)`` that may not exist yet.

    A teacher's source may also have ``against(student)``: its logits ``(n, V)`` beside a block of
    the student's, which is asked instead of ``logits()``. It is there for sources that know a part
    of the vocabulary only.

    Example:
        >>> isinstance(Dense(torch.zeros(2, 5)), LogitsSource)
        True
    """

    @property
    def shape(self) -> torch.Size:
        """Shape ``(..., V)`` of the logits that the source stands for."""
        ...

    def select(self, index: Index) -> LogitsSource:
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

    def select(self, index: Index) -> Dense:
        """Rows ``index`` of the flattened positions, ``(n, V)``; all for None."""
        return Dense(_rows(self.tensor, index))

    def logits(self) -> Tensor:
        """The tensor itself."""
        return self.tensor


@dataclass(frozen=True)
class Projected:
    """Hidden states ``(..., D)`` and the output head ``D -> V`` that makes logits of them.

    The head stays with its owner (a `torch.nn.Linear` inside a model that may be sharded), and is
    applied only to the positions that are asked for. What a model does to every logit after its
    head, such as a scale or a soft-cap, is ``transform``.

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
        """Shape ``(..., V)`` of the logits, read off the head's ``out_features`` or weight."""
        vocabulary = getattr(self.head, "out_features", None) or self.head.weight.shape[0]  # type: ignore[attr-defined]
        return torch.Size([*self.hidden.shape[:-1], vocabulary])

    def select(self, index: Index) -> Projected:
        """Rows ``index`` of the flattened positions; the head is not applied yet."""
        return replace(self, hidden=_rows(self.hidden, index))

    def logits(self) -> Tensor:
        """Apply the head, ``(..., D) -> (..., V)``."""
        logits = self.head(self.hidden)
        return logits if self.transform is None else self.transform(logits)


Logits: TypeAlias = "LogitsSource | Tensor"


def as_source(logits: Logits) -> LogitsSource:
    """A tensor becomes `Dense`; a source stays what it is.

    Example:
        >>> as_source(torch.zeros(2, 5)).shape
        torch.Size([2, 5])
    """
    if isinstance(logits, Tensor):
        return Dense(logits)
    if isinstance(logits, LogitsSource):
        return logits
    raise TypeError(
        f"expected logits as a tensor (..., V) or a logits source such as Dense or Projected, got"
        f" {type(logits).__name__}; a Hugging Face output is not logits: return `output.logits`"
    )


def ask(network: Callable[[Any], Logits], batch: Any) -> Logits:
    """Logits of ``network`` for a whole batch.

    Raises:
        TypeError: the network fails on the batch as it is, which is no tensor.

    Example:
        >>> ask(torch.nn.Linear(3, 5), torch.zeros(2, 3)).shape
        torch.Size([2, 5])
    """
    try:
        return network(batch)
    except (TypeError, AttributeError) as error:
        if isinstance(batch, Tensor):
            raise
        key = next(iter(batch), 0) if isinstance(batch, Mapping) else 0
        raise TypeError(
            f"{type(network).__name__} was given the whole batch, a {type(batch).__name__}, and"
            f" failed: {error}. A network that reads one entry of it is wrapped, such as"
            f" kdlight.Plain(network, key={key!r}); where that is not it, define student_logits and"
            " teacher_logits in a subclass"
        ) from error


def _rows(tensor: Tensor, index: Index) -> Tensor:
    # the size is spelled out because -1 is ambiguous for a tensor without positions
    rows = tensor.reshape(prod(tensor.shape[:-1]), tensor.shape[-1])
    if index is None:
        return rows
    return rows[index] if isinstance(index, slice) else rows.index_select(0, index)
