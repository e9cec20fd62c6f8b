"""Distances between all pairs of predictions, without a tensor of points x points x vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from kdlight.checks import check_choice
from kdlight.losses.log_space import probs

COLUMNS, ENTRIES = 2**14, 2**17
"""Columns that are added up at once, and the limit on their entries: these fit into a cache, and a
float32 sum over a whole vocabulary would lose one more digit."""

BUFFER = 2**26
"""Limit on entries of points x points x columns in a backward pass without a kernel for it."""

MakeLogits: TypeAlias = Callable[[], Tensor]


def pair_distances(
    student: Tensor, teacher: Tensor, *, temperature: float | None = None, p: int = 1
) -> Tensor:
    r"""Distances from the student's to the teacher's points, (n, V), (m, V) -> (n, m).

    .. math:: C_{ij} = \| q_i - p_j \|_p

    This takes the memory of the probabilities of both sides, on any device. The backward pass of
    `torch.cdist` on CUDA allocates all (n, m, V) differences if p = 1.

    Args:
        student: Logits of q, or points if temperature is None. Differentiable.
        teacher: Logits of p, or points. Differentiable, at the cost of a second forward pass.
        temperature: Divides the logits; None for points that are used as they are.
        p: 1 for the sum of absolute differences, 2 for the Euclidean norm.

    Raises:
        ValueError: If p is neither 1 nor 2.

    >>> pair_distances(torch.zeros(1, 2), torch.zeros(3, 2), temperature=1.0)
    tensor([[0., 0., 0.]])
    """
    distances = distances_to(student, [teacher.detach], temperature=temperature, p=p, keep=True)
    if not (teacher.requires_grad and torch.is_grad_enabled()):
        return distances
    reverse = distances_to(teacher, [student.detach], temperature=temperature, p=p).T
    return distances + (reverse - reverse.detach()).to(distances)


def own_distances(distances: Tensor) -> Tensor:
    """Distances of points from themselves, with the gradient in both points of each pair.

    Args:
        distances: The same values, with the gradient in the first point of each pair only.
    """
    return distances + (distances.T - distances.T.detach())


def distances_to(
    student: Tensor,
    teacher: Sequence[MakeLogits],
    *,
    temperature: float | None = None,
    p: int = 1,
    keep: bool = False,
) -> Tensor:
    """Compute `pair_distances` to logits that are made on demand, (n, V), (m, V) -> (n, m).

    Args:
        student: See `pair_distances`.
        teacher: Functions that return some rows of logits each, at least one function. They are
            called again in the backward pass. The logits get no gradient.
        temperature: See `pair_distances`.
        p: See `pair_distances`.
        keep: Save the probabilities for the backward pass instead of computing them again.
    """
    check_choice("p", p, (1, 2))
    return _Distances.apply(student, tuple(teacher), temperature, p, keep)


class _Distances(Function):
    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        teacher: tuple[MakeLogits, ...],
        temperature: float | None,
        p: int,
        keep: bool,
    ) -> Tensor:
        x, parts, kept = _points(student, temperature), [], []
        for make in teacher:
            y = _points(make(), temperature).to(x)
            parts.append(_blockwise_distances(x, y, p))
            kept += [y] if keep else []
        distances = torch.cat(parts, 1)
        ctx.save_for_backward(student, distances)
        ctx.teacher, ctx.temperature, ctx.p = teacher, temperature, p
        ctx.kept = [x, *kept] if keep and ctx.needs_input_grad[0] else None
        return distances

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        student, distances = ctx.saved_tensors
        kept, ctx.kept = ctx.kept, None  # overwritten below: a second call computes them again
        x = kept[0] if kept else _points(student, ctx.temperature)
        grad_x, start = None, 0
        for index, make in enumerate(ctx.teacher):
            y = kept[1 + index] if kept else _points(make(), ctx.temperature).to(x)
            block = slice(start, start := start + len(y))
            blocks = (each[:, block].contiguous() for each in (grad, distances))
            parts = _grad_parts(*blocks, x, y, ctx.p)  # type: ignore[call-arg]
            if ctx.temperature is not None and y.shape == x.shape and len(ctx.teacher) == 1:
                grad_x = y  # reuse its memory: each part of y is overwritten after its last use
                for columns, part in parts:
                    grad_x[:, columns] = part
                break
            grad_x = torch.zeros_like(x) if grad_x is None else grad_x
            for columns, part in parts:
                grad_x[:, columns] += part
        assert grad_x is not None
        if ctx.temperature is not None:  # through the softmax
            mean = torch.einsum("iv,iv->i", grad_x, x)[:, None] / ctx.temperature
            grad_x.mul_(1 / ctx.temperature).sub_(mean).mul_(x)
        return grad_x.to(student.dtype), None, None, None, None


def _points(logits: Tensor, temperature: float | None) -> Tensor:
    if temperature is None:
        return logits
    points = torch.empty_like(logits, dtype=torch.promote_types(logits.dtype, torch.float32))
    size = max(1, ENTRIES // max(1, logits.shape[-1]))
    for rows, out in zip(logits.split(size), points.split(size), strict=True):
        out.copy_(probs(rows, temperature))  # in parts, so that temporaries stay in the cache
    return points


def _column_blocks(points: Tensor) -> list[slice]:
    few = points.numel() <= 8 * ENTRIES
    size = COLUMNS if few else max(256, min(COLUMNS, ENTRIES // len(points)))
    return [slice(start, start + size) for start in range(0, points.shape[-1], size)]


def _blockwise_distances(x: Tensor, y: Tensor, p: int) -> Tensor:
    # A matrix product would lose the Euclidean distances of points that are close to each other.
    exact, total = "donot_use_mm_for_euclid_dist", x.new_zeros(len(x), len(y))
    for columns in _column_blocks(x):
        part = torch.cdist(x[:, columns], y[:, columns], p, exact)
        total += part.square_() if p == 2 else part
    return total.sqrt_() if p == 2 else total


def _grad_parts(
    grad: Tensor, distances: Tensor, x: Tensor, y: Tensor, p: int
) -> Iterator[tuple[slice, Tensor]]:
    for columns in _column_blocks(x):
        a, b = x[:, columns].contiguous(), y[:, columns].contiguous()
        yield columns, distance_grad(grad, a, b, distances, p)


def distance_grad(grad: Tensor, x: Tensor, y: Tensor, distances: Tensor, p: int) -> Tensor:
    r"""Gradient in x, given that in the distances, (n, m), (n, V), (m, V), (n, m) -> (n, V).

    .. math:: \sum_j G_{ij} \operatorname{sign}(x_i - y_j)
              \quad\text{or}\quad \sum_j G_{ij} (x_i - y_j) / C_{ij}

    Terms of equal points are 0.
    """
    if x.device.type == "cpu" and grad.numel():  # this kernel needs no buffer
        return torch.ops.aten._cdist_backward(grad, x, y, float(p), distances)
    return euclidean_grad(grad, x, y, distances) if p == 2 else absolute_grad(grad, x, y)


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
