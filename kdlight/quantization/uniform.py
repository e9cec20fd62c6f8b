"""Weights rounded to evenly spaced values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kdlight.quantization.buckets import (
    as_buckets,
    bucket_ranges,
    check_bits,
    check_bucket,
    check_entries,
    from_buckets,
)

BLOCK = 2**17
"""Entries that are rounded together on a CPU, so that they stay in its cache."""


def uniform_quantize(weight: Tensor, *, bits: int, bucket: int | None = 256) -> Tensor:
    r"""Round a weight to ``2 ** bits`` evenly spaced values in each bucket, (...) -> (...).

    .. math:: Q(w) = \alpha\, \frac{\mathrm{round}\left(\frac{w - \beta}{\alpha} (s - 1)\right)}
        {s - 1} + \beta, \qquad s = 2^{bits},\; \beta = \min w,\; \alpha = \max w - \min w

    The minimum and maximum are those of a bucket of consecutive entries. A half is rounded to the
    even neighbor. The gradient passes straight through, as if nothing had been rounded. Choose
    fewer entries in a bucket for a smaller error; each bucket takes two more numbers to store. A
    bucket whose values differ by less than 1e-10 is constant, and takes the least of them.

    Args:
        weight: a tensor of any shape; half precision is computed in float32.
        bits: 1 to 16.
        bucket: entries of a bucket; the last one may have fewer. None for one bucket.

    Raises:
        TypeError: If the weight is not floating point, or a number is no integer.
        ValueError: If a number is outside its range, or the weight is not finite.

    Polino, Pascanu, Alistarh, "Model compression via distillation and quantization", 2018, section
    2.1; the straight-through gradient is that of its algorithm 1.

    Example:
        >>> uniform_quantize(torch.tensor([0.0, 0.2, 0.6, 1.0]), bits=1)
        tensor([0., 0., 1., 1.])
    """
    check_bits(bits)
    check_bucket(bucket)
    check_entries(as_buckets(weight.detach(), bucket))
    return straight_through(weight, round_to_grid(weight.detach(), bits, bucket))


@torch.no_grad()
def round_to_grid(weight: Tensor, bits: int, bucket: int | None) -> Tensor:
    """Return what `uniform_quantize` does, without checks and gradient; NaN stays NaN.

    Example:
        >>> round_to_grid(torch.tensor([0.0, 0.4, 1.0]), 1, None)
        tensor([0., 0., 1.])
    """
    rows = as_buckets(weight, bucket)
    if rows.numel() == 0:
        return torch.empty_like(weight)
    count = max(BLOCK // rows.shape[1], 1) if rows.device.type == "cpu" else len(rows)
    result = torch.empty_like(rows)
    for source, target in zip(rows.split(count), result.split(count), strict=True):
        low, width = bucket_ranges(source)
        step = width / (2**bits - 1)
        torch.sub(source, low, out=target)
        target.div_(step).round_().mul_(step).add_(low)
    return from_buckets(result, weight)


def straight_through(weight: Tensor, value: Tensor) -> Tensor:
    """Return ``value`` with the gradient of ``weight``, both of the same shape.

    Bengio, Léonard, Courville, "Estimating or Propagating Gradients Through Stochastic Neurons for
    Conditional Computation", 2013, section 3.

    Example:
        >>> weight = torch.tensor([0.3], requires_grad=True)
        >>> straight_through(weight, torch.tensor([1.0])).square().backward()
        >>> weight.grad
        tensor([2.])
    """
    result = _StraightThrough.apply(weight, value)
    assert isinstance(result, Tensor)
    return result


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return grad, None
