"""Metrics whose states keep their precision when the module that holds them is cast."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric


class PreciseMetric(Metric):
    """The base class of all metrics of kdlight: a cast of the module moves states, and rounds none.

    Lightning casts a whole module for ``precision: bf16-true`` or ``16-true``, and the metrics in
    it. A sum in bfloat16 stops growing after a few hundred terms, so that a mean would depend on
    the amount of data. ``set_dtype`` still converts the states.

    Example:
        >>> nn.ModuleList([Mean()]).to(torch.bfloat16)[0].mean_value.dtype
        torch.float64
    """

    def _apply(
        self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ""
    ) -> nn.Module:
        if self._dtype_convert:  # set_dtype: a conversion that was asked for
            return super()._apply(fn, exclude_state)
        dtype = self._dtype  # of inputs; torchmetrics would read it from a tensor of its own

        def move(state: Tensor) -> Tensor:
            moved = fn(state)
            return moved if moved.dtype == state.dtype else state.to(moved.device)

        super()._apply(move, exclude_state)
        self._dtype = dtype
        return self


class Mean(PreciseMetric, MeanMetric):
    """The mean of all values, in double precision. A NaN makes it NaN.

    Example:
        >>> metric = Mean()
        >>> metric.update(torch.tensor([1.0, 4.0]))
        >>> metric.compute()
        tensor(2.5000, dtype=torch.float64)
    """

    def __init__(self) -> None:
        super().__init__(nan_strategy="disable")  # to drop a NaN would hide a broken run
        self.set_dtype(torch.float64)
