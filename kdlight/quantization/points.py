"""Weights set to the nearest of given points, which may be learned."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdlight.checks import check_integer
from kdlight.quantization.buckets import (
    as_buckets,
    bucket_ranges,
    check_bucket,
    check_entries,
    from_buckets,
)


class NearestPoints(NamedTuple):
    """A weight at its nearest points.

    Attributes:
        values: the weight, each entry at its nearest point, of the shape and dtype of the weight.
        index: the number of that point, of the same shape.

    Example:
        >>> nearest_points(torch.tensor([0.0, 0.8, 1.0]), torch.tensor([0.0, 0.5, 1.0])).index
        tensor([0, 2, 2], dtype=torch.int32)
    """

    values: Tensor
    index: Tensor


def nearest_points(weight: Tensor, points: Tensor, *, bucket: int | None = 256) -> NearestPoints:
    r"""Set the entries of a weight to the nearest of s points, (...), (s,) -> (...), (...).

    Points are those of the scaled weight, which is 0 at the minimum of a bucket and 1 at its
    maximum, so that all buckets of a weight share them:

    .. math:: Q(w) = \alpha\, p_{j(w)} + \beta, \qquad
        \frac{\partial L}{\partial p_j} = \sum_{w:\, j(w) = j} \alpha_w
        \frac{\partial L}{\partial Q(w)}

    The gradient of the points is exact, with the assignment j fixed. The weight is a constant, as
    in the paper, where it is not trained.

    Args:
        weight: a tensor of any shape; half precision is computed in float32.
        points: in increasing order.
        bucket: entries of a bucket, see `kdlight.quantization.uniform_quantize`.

    Raises:
        TypeError: If the weight or the points are not floating point, or ``bucket`` is no integer.
        ValueError: If there are no points, they decrease or are not finite, the weight is not
            finite, or ``bucket`` is below 1.

    Polino, Pascanu, Alistarh, "Model compression via distillation and quantization", 2018, section
    4.

    Example:
        >>> points = torch.tensor([0.0, 0.5, 1.0])
        >>> nearest_points(torch.tensor([-1.0, 0.3, 1.0]), points, bucket=None).values
        tensor([-1.,  0.,  1.])
    """
    check_bucket(bucket)
    check_points(points)
    check_entries(as_buckets(weight.detach(), bucket))
    return set_to_points(weight.detach(), points, bucket)


def check_points(points: Tensor) -> None:
    """Raise an error for points that are no increasing row of finite numbers.

    Raises:
        TypeError: If they are not floating point.
        ValueError: If there are none, they are not a row, decrease, or are not finite.

    Example:
        >>> check_points(torch.tensor([1.0, 0.0]))
        Traceback (most recent call last):
        ValueError: points must be in increasing order; sort them: points.sort().values
    """
    if not points.is_floating_point():
        raise TypeError(f"points must be floating point, got {points.dtype}")
    if points.dim() != 1 or not len(points):
        raise ValueError(f"points must be a row of at least one number, got {tuple(points.shape)}")
    if not bool(points.isfinite().all()):
        raise ValueError("points must be finite, got NaN or an infinite one")
    if bool((points.diff() < 0).any()):
        raise ValueError("points must be in increasing order; sort them: points.sort().values")


def set_to_points(weight: Tensor, points: Tensor, bucket: int | None) -> NearestPoints:
    """Return what `nearest_points` does, without checks.

    Example:
        >>> set_to_points(torch.tensor([0.0, 0.6, 1.0]), torch.tensor([0.0, 1.0]), None).values
        tensor([0., 1., 1.])
    """
    rows = as_buckets(weight, bucket)
    points = points.to(rows.dtype)
    if rows.numel() == 0:
        return NearestPoints(weight.clone(), torch.empty_like(weight, dtype=torch.int32))
    with torch.no_grad():
        low, width = bucket_ranges(rows)
        scaled = rows.sub(low).div_(width)
        # between two points lies the border of what is nearer to the one or to the other
        borders = (points[1:] + points[:-1]) / 2
        index = torch.bucketize(scaled, borders, out_int32=True)
    values = _AtPoints.apply(points, index, low, width)
    assert isinstance(values, Tensor)
    flat = index.view(-1)[: weight.numel()]
    return NearestPoints(from_buckets(values, weight), flat.view(weight.shape))


class _AtPoints(torch.autograd.Function):
    """The points of an index (n, b), scaled to each row."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, index: Tensor, low: Tensor, width: Tensor) -> Tensor:
        ctx.save_for_backward(index, width)
        ctx.count = len(points)
        return points.index_select(0, index.view(-1)).view(index.shape).mul_(width).add_(low)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        index, width = ctx.saved_tensors
        # millions of entries are added up, of either sign
        wide = torch.float32 if grad.device.type == "mps" else torch.float64
        sums = torch.zeros(ctx.count, dtype=wide, device=grad.device)
        sums.index_add_(0, index.view(-1), (grad * width).view(-1).to(wide))
        return sums.to(grad.dtype), None, None, None


@torch.no_grad()
def initial_points(weight: Tensor, count: int, *, bucket: int | None = 256) -> Tensor:
    """Return ``count`` evenly spaced percentiles of the scaled weight, (...) -> (count,).

    With two points or more the first is 0 and the last is 1. They are increasing, and in float32
    or wider.

    Args:
        weight: a tensor of any shape that is not empty.
        count: number of points.
        bucket: entries of a bucket, see `kdlight.quantization.uniform_quantize`.

    Raises:
        TypeError: If the weight is not floating point, or a number is no integer.
        ValueError: If a number is below 1, or the weight is empty or not finite.

    Polino, Pascanu, Alistarh, "Model compression via distillation and quantization", 2018, section
    4; the percentiles are those of the authors' code.

    Example:
        >>> initial_points(torch.tensor([0.0, 0.1, 0.2, 0.4, 1.0]), 3)
        tensor([0.0000, 0.2000, 1.0000])
    """
    check_integer("count", count, 1)
    check_bucket(bucket)
    if not weight.numel():
        raise ValueError(f"weight must have entries, got the shape {tuple(weight.shape)}")
    rows = as_buckets(weight, bucket)
    check_entries(rows)
    low, width = bucket_ranges(rows)
    # torch.quantile takes at most 16 million entries
    ordered = rows.sub(low).div_(width).view(-1)[: weight.numel()].sort().values
    places = torch.linspace(0, len(ordered) - 1, count, dtype=torch.float64)
    below = places.floor().long().clamp_(max=max(len(ordered) - 2, 0))
    above = (below + 1).clamp_(max=len(ordered) - 1)
    share = (places - below).to(ordered)
    return ordered[below].lerp(ordered[above], share)
