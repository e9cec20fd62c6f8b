"""Distances between all pairs of predictions, without a tensor of points x points x vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from kdlight.checks import check_choice
from kdlight.losses.log_space import probs
from kdlight.losses.optimal_transport.blocks import (
    blockwise_distances,
    column_blocks,
    distance_grad,
)

ENTRIES = 2**17
"""Probabilities that are computed at once, so that temporaries stay in the cache."""

KEPT = 2**20
"""Logits of which the probabilities are kept for the backward pass in any case: they are few."""

Index: TypeAlias = "Tensor | slice | None"
MakeLogits: TypeAlias = Callable[[], Tensor]
Problem: TypeAlias = "tuple[Index, tuple[MakeLogits, ...]]"
"""Rows of the student, and functions that return some rows of the teacher's logits each."""


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
    return problem_distances(student, teacher, [(None, None)], temperature=temperature, p=p)[0]


def problem_distances(
    student: Tensor,
    teacher: Tensor,
    problems: Sequence[tuple[Index, Index]],
    *,
    temperature: float | None = None,
    p: int = 1,
) -> list[Tensor]:
    """Compute `pair_distances` of several problems, (N, V), (M, V) -> G matrices (n, m).

    Args:
        student: See `pair_distances`.
        teacher: See `pair_distances`.
        problems: Rows of the student and of the teacher in each problem, None for all. No row of
            the student may be in two of them.
        temperature: See `pair_distances`.
        p: See `pair_distances`.
    """
    check_choice("p", p, (1, 2))
    parts = tuple((one, (partial(_rows, teacher.detach(), other),)) for one, other in problems)
    # the probabilities of a single problem are no more than what its gradient needs anyway
    keep = len(problems) == 1 or student.numel() <= KEPT
    distances = _Distances.apply(student, parts, temperature, p, keep, None)
    if not (teacher.requires_grad and torch.is_grad_enabled()):
        return list(distances)
    swapped = [(other, one) for one, other in problems]
    reverse = problem_distances(teacher, student.detach(), swapped, temperature=temperature, p=p)
    return [a + (b.T - b.T.detach()).to(a) for a, b in zip(distances, reverse, strict=True)]


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
    known: Tensor | None = None,
) -> Tensor:
    """Compute `pair_distances` to logits that are made on demand, (n, V), (m, V) -> (n, m).

    Args:
        student: See `pair_distances`.
        teacher: Functions that return some rows of logits each, at least one function. They are
            called again in the backward pass. The logits get no gradient.
        temperature: See `pair_distances`.
        p: See `pair_distances`.
        keep: Save the probabilities for the backward pass instead of computing them again.
        known: The distances, where an earlier call has computed them and only their graph is
            wanted.
    """
    check_choice("p", p, (1, 2))
    return _Distances.apply(student, ((None, tuple(teacher)),), temperature, p, keep, known)[0]


class _Distances(Function):
    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        problems: tuple[Problem, ...],
        temperature: float | None,
        p: int,
        keep: bool,
        known: Tensor | None,
    ) -> tuple[Tensor, ...]:
        found, kept = [] if known is None else [known.clone()], []
        for index, teacher in problems if known is None else ():
            x, parts = _points(_rows(student, index), temperature), []
            points = [x]
            for make in teacher:
                y = _points(make(), temperature).to(x)
                parts.append(blockwise_distances(x, y, p))
                points += [y] if keep else []
            found.append(torch.cat(parts, 1) if len(parts) > 1 else parts[0])
            kept.append(points)
        ctx.save_for_backward(student, *found)
        ctx.problems, ctx.temperature, ctx.p = problems, temperature, p
        ctx.kept = kept if keep and kept and ctx.needs_input_grad[0] else None
        return tuple(found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        student, *found = ctx.saved_tensors
        kept, ctx.kept = ctx.kept, None  # overwritten below: a second call computes them again
        total = None
        for number, (index, teacher) in enumerate(ctx.problems):
            x, *others = kept[number] if kept else [_points(_rows(student, index), ctx.temperature)]
            points = others or (_points(make(), ctx.temperature).to(x) for make in teacher)
            owned = len(teacher) == 1 and ctx.temperature is not None
            slopes = _slopes(grads[number], found[number], x, points, ctx.p, owned=owned)
            if ctx.temperature is not None:
                _through_softmax(slopes, x, ctx.temperature)
            if index is None:  # all rows: there is no other problem
                total = slopes.to(student.dtype)
            else:
                total = torch.zeros_like(student) if total is None else total
                total[index] = slopes.to(student.dtype)
        return total, None, None, None, None, None


def _slopes(
    grad: Tensor, distances: Tensor, x: Tensor, teacher: Any, p: int, *, owned: bool
) -> Tensor:
    """Return the gradient in x, in the memory of the teacher's points where they are ``owned``."""
    total, start = None, 0
    for y in teacher:
        block = slice(start, start := start + len(y))
        pair = [each[:, block].contiguous() for each in (grad, distances)]
        reuse = owned and y.shape == x.shape
        if total is None:
            total = y if reuse else torch.zeros_like(x)
        for columns in column_blocks(len(x), len(y), x.shape[-1]):
            a, b = x[:, columns].contiguous(), y[:, columns].contiguous()
            part = distance_grad(pair[0], a, b, pair[1], p)
            if reuse:  # these columns of y are not needed any more
                total[:, columns] = part
            else:
                total[:, columns] += part
    assert total is not None
    return total


def _through_softmax(grad: Tensor, probabilities: Tensor, temperature: float) -> None:
    size = max(1, ENTRIES // max(1, grad.shape[-1]))
    for rows, q in zip(grad.split(size), probabilities.split(size), strict=True):
        slopes = torch._softmax_backward_data(rows, q, -1, rows.dtype)  # type: ignore[attr-defined]
        torch.mul(slopes, 1 / temperature, out=rows)


def _rows(logits: Tensor, index: Index) -> Tensor:
    return logits if index is None else logits[index]


def _points(logits: Tensor, temperature: float | None) -> Tensor:
    if temperature is None:
        return logits
    if logits.numel() <= ENTRIES:
        return probs(logits, temperature)
    points = torch.empty_like(logits, dtype=torch.promote_types(logits.dtype, torch.float32))
    size = max(1, ENTRIES // max(1, logits.shape[-1]))
    for rows, out in zip(logits.split(size), points.split(size), strict=True):
        out.copy_(probs(rows, temperature))
    return points
