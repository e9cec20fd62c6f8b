"""Sinkhorn's iterations in log space, and the way back through all of them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def log_sinkhorn(kernel: Tensor, rows: Tensor, columns: Tensor, *, iterations: int) -> Tensor:
    r"""Plans with mass 1 after a fixed number of turns, (G, n, m) -> (G, n, m).

    .. math:: f_i = \log a_i - \operatorname{LSE}_j (K_{ij} + g_j), \qquad
              g_j = \log b_j - \operatorname{LSE}_i (K_{ij} + f_i), \qquad g^0 = 0

    Marginals are uniform over the points. What is no point has mass 0 from the start, so that the
    first sum does without it, too. The way back makes the plan of each turn again from its
    potentials: memory is that of one plan, and of a vector for each turn.

    Args:
        kernel: Minus the cost over epsilon.
        rows: Which rows are points, (G, n).
        columns: Which columns are, (G, m).
        iterations: Turns, of f first.
    """
    return _Unrolled.apply(kernel, rows, columns, iterations)


class _Unrolled(Function):
    @staticmethod
    def forward(ctx: Any, kernel: Tensor, rows: Tensor, columns: Tensor, iterations: int) -> Tensor:
        a, b = _masses(rows, kernel.dtype).unsqueeze(2), _masses(columns, kernel.dtype).unsqueeze(1)
        log_a, log_b = a.log(), b.log()
        g = torch.where(b > 0, 0.0, -math.inf).to(kernel)
        turns, buffer = [g], torch.empty_like(kernel)
        for _ in range(iterations):
            f = log_a - _log_sum_exp(torch.add(kernel, g, out=buffer), 2)
            g = log_b - _log_sum_exp(torch.add(kernel, f, out=buffer), 1)
            turns += [f, g]
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(kernel, a, b, *turns)
        return torch.add(kernel, f, out=buffer).add_(g).exp_()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        kernel, a, b, *turns = ctx.saved_tensors
        a, b = (torch.where(mass > 0, mass, 1.0) for mass in (a, b))
        f, g = turns[-2:]
        total = (kernel + f).add_(g).exp_().mul_(grad)
        of_f, of_g = total.sum(2, keepdim=True), total.sum(1, keepdim=True)
        buffer = torch.empty_like(kernel)
        for turn in range(len(turns) - 2, 0, -2):
            before, f, g = turns[turn - 1 : turn + 2]
            # the slopes of either sum are the plan it made, its rows or columns scaled to mass 1
            part = torch.add(kernel, f, out=buffer).add_(g).exp_().mul_(of_g / b)
            total -= part
            of_f = of_f - part.sum(2, keepdim=True)
            part = torch.add(kernel, f, out=buffer).add_(before).exp_().mul_(of_f / a)
            total -= part
            of_f, of_g = 0.0, -part.sum(1, keepdim=True)
        return total, None, None, None


def _log_sum_exp(x: Tensor, side: int) -> Tensor:
    # in place, and quicker on few points than torch.logsumexp; never all of a sum is -inf
    top = x.amax(side, keepdim=True)
    return x.sub_(top).exp_().sum(side, keepdim=True).log_().add_(top)


def _masses(points: Tensor, dtype: torch.dtype) -> Tensor:
    return points.to(dtype) / points.sum(-1, keepdim=True)
