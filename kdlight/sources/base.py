"""Logits sources: objects that stand for logits, whether or not the logits exist as a tensor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

import torch
from torch import Tensor

from kdlight.sources.weight_sums import WeightSums

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

    @property
    def shares(self) -> Mapping[str, Tensor]:
        """The mean weight of each of them, over the positions whose logits were computed."""
        return {}

    @property
    def weight_sums(self) -> WeightSums | None:
        """What `shares` are computed from; None where there are none."""
        return None

    def without_labels(self) -> LogitsSource:
        """Return the source as it is where labels are not known, which weights may depend on."""
        return self


@dataclass(eq=False)  # not frozen: Lightning moves what a dataclass holds in place
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
    """Wrap a tensor, or the ``logits`` of an object, in `Dense`; return a source unchanged.

    Raises:
        TypeError: ``logits`` is none of these.

    Example:
        >>> as_source(torch.zeros(2, 5)).shape
        torch.Size([2, 5])
    """
    if isinstance(logits, Tensor):
        return Dense(logits)
    if isinstance(logits, LogitsSource):
        return logits
    inner = getattr(logits, "logits", None)  # the output object of a transformers model
    if isinstance(inner, Tensor):
        return Dense(inner)
    if isinstance(getattr(logits, "__self__", None), LogitsSource):
        raise TypeError(
            "got the method `logits` of a logits source, which a teacher returns; return the source"
            " itself, such as `self.teacher(batch)`, not `self.teacher(batch).logits`"
        )
    raise TypeError(
        f"expected logits as a tensor (..., V), an object with `logits`, or a logits source such as"
        f" Dense or Projected, got {type(logits).__name__}; derive a source of your own from"
        " kdlight.sources.LogitsSource"
    )


def select_rows(tensor: Tensor, index: Index) -> Tensor:
    """Return rows ``index`` of the flattened positions, ``(..., V) -> (n, V)``."""
    # the size is spelled out because -1 is ambiguous for a tensor without positions
    rows = tensor.reshape(prod(tensor.shape[:-1]), tensor.shape[-1])
    if index is None:
        return rows
    return rows[index] if isinstance(index, slice) else rows.index_select(0, index)
