"""Distances of all pairs of points and their gradient, in blocks that stay in a processor's cache.

There are points x points x columns differences, each of which is needed in both passes, and little
else takes time. A kernel that forms a difference and its absolute value in one pass over a block,
followed by a sum, is faster than `torch.cdist`, which waits for each addition of a single sum.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

COLUMNS, NARROW = 2**14, 2**9
"""Most columns that are added up at once: a float32 sum over a whole vocabulary would lose one more
digit. Fewer than the second make more calls than their work is worth."""

ENTRIES = 2**19
"""Differences that exist at once on a CPU, 2 MiB in float32."""

FEW = 2**20
"""Differences that one call of `torch.cdist` computes in the time that calls per block take."""

EXACT = "donot_use_mm_for_euclid_dist"
"""A matrix product would lose the Euclidean distances of points that are close to each other."""

BUFFER = 2**26
"""Limit on entries of points x points x columns in a backward pass without a kernel for it."""


def column_blocks(rows: int, others: int, columns: int) -> list[slice]:
    """Divide the columns into blocks for ``rows`` and ``others`` points.

    >>> column_blocks(128, 128, 1000)
    [slice(0, 512, None), slice(512, 1024, None)]
    """
    size = max(NARROW, min(COLUMNS, ENTRIES // max(1, rows * others)))
    return [slice(start, start + size) for start in range(0, columns, size)]


def blockwise_distances(x: Tensor, y: Tensor, p: int) -> Tensor:
    r"""Distances of all pairs of rows, (n, V), (m, V) -> (n, m).

    .. math:: C_{ij} = \| x_i - y_j \|_p

    >>> blockwise_distances(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, -4.0]]), 2)
    tensor([[5.]])
    """
    if len(x) * y.numel() <= FEW:
        return torch.cdist(x, y, p, EXACT)
    total = x.new_zeros(len(x), len(y))
    for columns in column_blocks(len(x), len(y), x.shape[-1]):
        a, b = x[:, columns].contiguous(), y[:, columns].contiguous()
        if x.device.type == "cpu":
            _add_differences(total, a, b, p)
        else:
            part = torch.cdist(a, b, p, EXACT)
            total += part.square_() if p == 2 else part
    return total.sqrt_() if p == 2 else total


def _add_differences(total: Tensor, x: Tensor, y: Tensor, p: int) -> None:
    least = torch.finfo(x.dtype).tiny  # the smooth L1 loss is |x - y| above this, and less below
    for a, b, block, out in _differences(x, y, total):
        if p == 2:
            torch.ops.aten.mse_loss.out(a, b, 0, out=block)
        else:
            torch.ops.aten.smooth_l1_loss.out(a, b, 0, least, out=block)
        out += block.sum(-1)


def _differences(
    x: Tensor, y: Tensor, each: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Yield rows (r, 1, V), the others (1, m, V), a buffer (r, m, V) and their rows of ``each``."""
    size = max(1, min(len(x), ENTRIES // max(1, y.numel())))
    buffer, others = x.new_empty(size, *y.shape), y[None]
    for rows, part in zip(x.unsqueeze(1).split(size), each.split(size), strict=True):
        yield rows, others, buffer[: len(rows)], part


def distance_grad(grad: Tensor, x: Tensor, y: Tensor, distances: Tensor, p: int) -> Tensor:
    r"""Gradient in x, given that in the distances, (n, m), (n, V), (m, V), (n, m) -> (n, V).

    .. math:: \sum_j G_{ij} \operatorname{sign}(x_i - y_j)
              \quad\text{or}\quad \sum_j G_{ij} (x_i - y_j) / C_{ij}

    Terms of equal points are 0. The matrices must be contiguous.

    >>> x, y = torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    >>> distance_grad(torch.ones(1, 2), x, y, torch.tensor([[2.0, 2.0]]), 1)
    tensor([[-1.,  2.]])
    """
    if x.device.type != "cpu" or not grad.numel():
        return euclidean_grad(grad, x, y, distances) if p == 2 else absolute_grad(grad, x, y)
    if p == 2 or len(x) * y.numel() <= FEW:  # this kernel needs no buffer
        return torch.ops.aten._cdist_backward(grad, x, y, float(p), distances)
    # the slope of the Huber loss over its bend: the sign of the difference, 0 at a tie, in one pass
    bend = torch.finfo(x.dtype).tiny
    scale = x.new_full((), 1 / bend)
    result, weights = torch.empty_like(x).unsqueeze(1), grad.unsqueeze(1)
    start = 0
    for a, b, block, out in _differences(x, y, result):
        sides = (side.expand_as(block) for side in (scale, a, b))
        torch.ops.aten.huber_loss_backward.out(*sides, 0, bend, grad_input=block)
        torch.bmm(weights[start : start + len(a)], block, out=out)
        start += len(a)
    return result.squeeze(1)


def euclidean_grad(grad: Tensor, x: Tensor, y: Tensor, distances: Tensor) -> Tensor:
    """The second sum of `distance_grad`, as a matrix product."""
    weights = (grad / distances).masked_fill(distances == 0, 0.0)
    return x * weights.sum(1, keepdim=True) - weights @ y


def absolute_grad(grad: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The first sum of `distance_grad`, some columns at a time."""
    columns = max(1, BUFFER // max(1, grad.numel()))
    parts = [
        torch.einsum("ij,ijv->iv", grad, (a[:, None] - b[None]).sign_())
        for a, b in zip(x.split(columns, -1), y.split(columns, -1), strict=True)
    ]
    return torch.cat(parts, -1)
