"""Logits sources: objects that stand for logits, whether or not the logits exist as a tensor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import torch
from torch import Tensor

Index: TypeAlias = "Tensor | slice | None"
"""Rows to select among the flattened positions: their indices, a slice, or None for all."""


class LogitsSource(ABC):
    """Logits of shape ``(..., V)``, which may be computed only when they are needed.

    Objectives select positions from a source before they compute its logits, so they work alike for
    a tensor, for hidden states with an output head, and for a cached teacher. A source of your own
    should be a dataclass, so that FSDP2 finds the tensors in it.

    Example:
        >>> isinstance(Dense(torch.zeros(2, 5)), LogitsSource)
        True
    """

    @property
    @abstractmethod
    def shape(self) -> torch.Size:
        """Shape ``(..., V)`` of the logits."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Dtype of the tensors that the logits are computed from."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Device of the logits."""

    @abstractmethod
    def select(self, index: Index) -> LogitsSource:
        """Return rows ``index`` of the flattened positions, as a source of ``(n, V)``."""

    @abstractmethod
    def logits(self) -> Tensor:
        """Compute the logits, ``(..., V)``."""

    def given_student(self, student: Tensor) -> Tensor:
        """Compute the logits, given the student's at the same positions, ``(n, V) -> (n, V)``.

        Only sources that know a part of the vocabulary, or a part of the positions, depend on the
        student. All others return `logits`.
        """
        return self.logits()

    @property
    def parts(self) -> Mapping[str, LogitsSource]:
        """The sources of several teachers by name, where this source combines them."""
        return {}


@dataclass(frozen=True)
class Dense(LogitsSource):
    """Logits ``(..., V)`` that exist as a tensor.

    Example:
        >>> Dense(torch.zeros(2, 3, 5)).select(torch.tensor([0, 4])).logits().shape
        torch.Size([2, 5])
    """

    tensor: Tensor

    @property
    def shape(self) -> torch.Size:
        """Shape ``(..., V)``."""
        return self.tensor.shape

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the tensor."""
        return self.tensor.dtype

    @property
    def device(self) -> torch.device:
        """Device of the tensor."""
        return self.tensor.device

    def select(self, index: Index) -> Dense:
        """Return rows ``index`` of the flattened positions, ``(n, V)``."""
        return Dense(select_rows(self.tensor, index))

    def logits(self) -> Tensor:
        """Return the tensor."""
        return self.tensor


Logits: TypeAlias = "LogitsSource | Tensor"


def as_source(logits: Logits) -> LogitsSource:
    """Wrap a tensor in `Dense`; return a source unchanged.

    Raises:
        TypeError: ``logits`` is neither.

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
        f" {type(logits).__name__}; of a Hugging Face output return `output.logits`, and derive a"
        " source of your own from kdlight.sources.LogitsSource"
    )


def call_network(network: Callable[[Any], Logits], batch: Any) -> Logits:
    """Call ``network`` on a whole batch, and explain a failure that a wrapper would prevent.

    Raises:
        TypeError: the network cannot read the batch, which is not a tensor.

    Example:
        >>> call_network(torch.nn.Linear(3, 5), torch.zeros(2, 3)).shape
        torch.Size([2, 5])
    """
    try:
        return network(batch)
    except (TypeError, AttributeError) as error:
        if isinstance(batch, Tensor):
            raise
        key = next(iter(batch), 0) if isinstance(batch, Mapping) else 0
        raise TypeError(
            f"{type(network).__name__} was called with the whole batch, a {type(batch).__name__},"
            f" and failed: {error}. Wrap a network that reads one entry of the batch, for example"
            f" kdlight.SingleInput(network, key={key!r}); for any other batch define student_logits"
            " and teacher_logits in a subclass"
        ) from error


def select_rows(tensor: Tensor, index: Index) -> Tensor:
    """Return rows ``index`` of the flattened positions, ``(..., V) -> (n, V)``."""
    # the size is spelled out because -1 is ambiguous for a tensor without positions
    rows = tensor.reshape(prod(tensor.shape[:-1]), tensor.shape[-1])
    if index is None:
        return rows
    return rows[index] if isinstance(index, slice) else rows.index_select(0, index)
