"""The result of a reduction: a sum, and the number of units that it is a sum over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from torch import Tensor

PerTokenValues: TypeAlias = "Tensor | tuple[Tensor, dict[str, Tensor]]"
"""Losses ``(n,)``, or a pair of these and further ``(n,)`` values to log, by name."""

PerTokenLoss: TypeAlias = Callable[..., PerTokenValues]
"""A function ``(n, V), (n, V), (n,) -> (n,)`` of student logits, teacher logits and labels."""


class Loss(NamedTuple):
    """A sum and the number of units that it is a sum over: ``total / count`` is the mean.

    The two stay apart until all micro-batches and ranks of an optimizer step are added up. Dividing
    earlier would weight tokens by micro-batch size.

    Attributes:
        total: sum over the counted units, a scalar with a graph.
        count: number of units (valid tokens for a token objective), a scalar without a graph.
        parts: named sums over the same units, without a graph: terms of a mixture, diagnostics.

    Example:
        >>> import torch
        >>> Loss(torch.tensor(6.0), torch.tensor(4)).mean()
        tensor(1.5000)
    """

    total: Tensor
    count: Tensor
    parts: Mapping[str, Tensor] = {}

    def mean(self) -> Tensor:
        """Return ``total / count``, or 0 with a graph where the count is 0."""
        return self.total / self.count.clamp(min=1)


def split_values(values: PerTokenValues) -> tuple[Tensor, dict[str, Tensor]]:
    """Return per-token values always as a pair of losses and further values by name.

    Example:
        >>> import torch
        >>> split_values(torch.ones(2))
        (tensor([1., 1.]), {})
    """
    return values if isinstance(values, tuple) else (values, {})
