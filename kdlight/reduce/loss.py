"""What a reduction returns: a sum, and what it is a sum over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from torch import Tensor

RowValues: TypeAlias = "Tensor | tuple[Tensor, dict[str, Tensor]]"
Rows: TypeAlias = Callable[..., RowValues]


class Loss(NamedTuple):
    """A sum and what it is a sum over: ``total / count`` is the mean.

    The two stay apart until all micro-batches and ranks of an optimizer step are added up; dividing
    earlier would weigh a token by the company it arrived in.

    Attributes:
        total: sum over the counted units, scalar with a graph.
        count: number of units (valid tokens for a token objective), scalar without one.
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
        """``total / count``, and 0 with a graph where nothing counted."""
        return self.total / self.count.clamp(min=1)


def split_rows(values: RowValues) -> tuple[Tensor, dict[str, Tensor]]:
    """What ``rows`` returned, always as the pair of row values and further values by name.

    Example:
        >>> import torch
        >>> split_rows(torch.ones(2))
        (tensor([1., 1.]), {})
    """
    return values if isinstance(values, tuple) else (values, {})
