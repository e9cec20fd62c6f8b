"""Distances between all pairs of predictions, without a tensor of points x points x vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from kdlight.losses.log_space import probs

COLUMNS, ENTRIES = 2**14, 2**17
"""Columns that are added up at once, and entries that they have at most: a cache holds these, and
a float32 sum over a whole vocabulary would lose a digit more."""

BUFFER = 2**26
"""Entries of points x points x columns that a backward pass without a kernel for it may hold."""

Make = Callable[[], Tensor]


def pair_distances(
    student: Tensor, teacher: Tensor, *, temperature: float | None = None, p: int = 1
) -> Tensor:
    r"""Distances of the student's points from the teacher's, (n, V), (m, V) -> (n, m).

    .. math:: C_{ij} = \| q_i - p_j \|_p

    Memory is that of the probabilities of both sides, on any device; `torch.cdist` has a backward
    pass on CUDA that makes all (n, m, V) differences where p = 1.

    Args:
        student: Logits of q; with no temperature, points as they are. Differentiable.
        teacher: The same of p. Differentiable, at the price of a second forward pass.
        temperature: Divides the logits; None for points that are no logits.
        p: 1 for the sum of absolute differences, 2 for the Euclidean norm.

    Raises:
        ValueError: If p is neither 1 nor 2.

    >>> pair_distances(torch.zeros(1, 2), torch.zeros(3, 2), temperature=1.0)
    tensor([[0., 0., 0.]])
    """
    far = distances_to(student, [teacher.detach], temperature=temperature, p=p, keep=True)
    if not (teacher.requires_grad and torch.is_grad_enabled()):
        return far
    back = distances_to(teacher, [student.detach], temperature=temperature, p=p).T
    return far + (back - back.detach()).to(far)


def own_distances(far: Tensor) -> Tensor:
    """Distances of points from themselves, given those that only the first of each pair moves."""
    return far + (far.T - far.T.detach())


def distances_to(
    student: Tensor,
    teacher: Sequence[Make],
    *,
    temperature: float | None = None,
    p: int = 1,
    keep: bool = False,
) -> Tensor:
    """`pair_distances` to logits that are made when they are needed, (n, V), (m, V) -> (n, m).

    Args:
        student: See `pair_distances`.
        teacher: Functions that make some rows each, called again in the backward pass, and held
            fast: they get no gradient. At least one.
        temperature: See `pair_distances`.
        p: See `pair_distances`.
        keep: Keep the probabilities for the backward pass, instead of making them again.
    """
    if p not in (1, 2):
        raise ValueError(f"p must be 1 or 2, got {p}")
    return _Distances.apply(student, tuple(teacher), temperature, p, keep)


class _Distances(Function):
    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        teacher: tuple[Make, ...],
        temperature: float | None,
        p: int,
        keep: bool,
    ) -> Tensor:
        x, parts, kept = _points(student, temperature), [], []
        for make in teacher:
            y = _points(make(), temperature).to(x)
            parts.append(_measure(x, y, p))
            kept += [y] if keep else []
        far = torch.cat(parts, 1)
        ctx.save_for_backward(student, far)
        ctx.teacher, ctx.temperature, ctx.p = teacher, temperature, p
        ctx.kept = [x, *kept] if keep and ctx.needs_input_grad[0] else None
        return far

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        student, far = ctx.saved_tensors
        kept, ctx.kept = ctx.kept, None  # written over below: who comes again makes them again
        x = kept[0] if kept else _points(student, ctx.temperature)
        pull, start = None, 0
        for index, make in enumerate(ctx.teacher):
            y = kept[1 + index] if kept else _points(make(), ctx.temperature).to(x)
            block = slice(start, start := start + len(y))
            parts = _slopes(grad[:, block].contiguous(), x, y, far[:, block].contiguous(), ctx.p)
            if ctx.temperature is not None and y.shape == x.shape and len(ctx.teacher) == 1:
                pull = y  # its columns are not needed again
                for some, part in parts:
                    pull[:, some] = part
                break
            pull = torch.zeros_like(x) if pull is None else pull
            for some, part in parts:
                pull[:, some] += part
        assert pull is not None
        if ctx.temperature is not None:  # through the softmax
            level = torch.einsum("iv,iv->i", pull, x)[:, None] / ctx.temperature
            pull.mul_(1 / ctx.temperature).sub_(level).mul_(x)
        return pull.to(student.dtype), None, None, None, None


def _points(logits: Tensor, temperature: float | None) -> Tensor:
    if temperature is None:
        return logits
    points = torch.empty_like(logits, dtype=torch.promote_types(logits.dtype, torch.float32))
    size = max(1, ENTRIES // max(1, logits.shape[-1]))
    for part, some in zip(logits.split(size), points.split(size), strict=True):
        some.copy_(probs(part, temperature))  # what it takes on the way stays in the cache
    return points


def _spans(points: Tensor) -> list[slice]:
    few = points.numel() <= 8 * ENTRIES
    size = COLUMNS if few else max(256, min(COLUMNS, ENTRIES // len(points)))
    return [slice(start, start + size) for start in range(0, points.shape[-1], size)]


def _measure(x: Tensor, y: Tensor, p: int) -> Tensor:
    # Euclidean distances by a matrix product would drown those of points that nearly meet.
    exact, far = "donot_use_mm_for_euclid_dist", x.new_zeros(len(x), len(y))
    for some in _spans(x):
        part = torch.cdist(x[:, some], y[:, some], p, exact)
        far += part.square_() if p == 2 else part
    return far.sqrt_() if p == 2 else far


def _slopes(
    grad: Tensor, x: Tensor, y: Tensor, far: Tensor, p: int
) -> Iterator[tuple[slice, Tensor]]:
    for some in _spans(x):
        yield some, slope(grad, x[:, some].contiguous(), y[:, some].contiguous(), far, p)


def slope(grad: Tensor, x: Tensor, y: Tensor, far: Tensor, p: int) -> Tensor:
    r"""What reaches x of a gradient of its distances, (n, m), (n, V), (m, V), (n, m) -> (n, V).

    .. math:: \sum_j G_{ij} \operatorname{sign}(x_i - y_j)
              \quad\text{or}\quad \sum_j G_{ij} (x_i - y_j) / C_{ij}

    Where two points meet, it is 0.
    """
    if x.device.type == "cpu" and grad.numel():  # this kernel needs no buffer
        return torch.ops.aten._cdist_backward(grad, x, y, float(p), far)
    return euclidean_slope(grad, x, y, far) if p == 2 else sign_slope(grad, x, y)


def euclidean_slope(grad: Tensor, x: Tensor, y: Tensor, far: Tensor) -> Tensor:
    """The second of the two sums, as a matrix product."""
    pull = (grad / far).masked_fill(far == 0, 0.0)
    return x * pull.sum(1, keepdim=True) - pull @ y


def sign_slope(grad: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The first of the two sums, some columns at a time."""
    columns = max(1, BUFFER // max(1, grad.numel()))
    parts = [
        torch.einsum("ij,ijv->iv", grad, (a[:, None] - b[None]).sign_())
        for a, b in zip(x.split(columns, -1), y.split(columns, -1), strict=True)
    ]
    return torch.cat(parts, -1)
