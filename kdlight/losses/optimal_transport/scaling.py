"""Sinkhorn's iterations on scaling vectors: products with one matrix, without exponentials."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kdlight.losses.likeliest import is_in_memory

LARGEST = 100.0
"""Largest difference of two costs, over epsilon. Vectors then lie within e^200 of 1, and all
products of theirs within the range of float64, which ends at e^709."""


def can_scale(kernel: Tensor) -> bool:
    """Return whether `scaling_sinkhorn` computes the plan of a kernel without overflow.

    >>> can_scale(torch.tensor([-100.0, 0.0])), can_scale(torch.tensor([0.0, 1000.0]))
    (True, False)
    """
    if not is_in_memory(kernel) or not kernel.numel():
        return False
    lowest, highest = kernel.aminmax()
    return bool(highest - lowest <= LARGEST)


class Scaling(NamedTuple):
    """Plans by Sinkhorn's iterations, and the vectors that they went through.

    Attributes:
        plan: The plans, (G, n, m), in float64 as everything here.
        factors: The exponentials of the kernel, (G, n, m), and these transposed, (G, m, n).
        masses: The marginals, (G, 1, n) and (G, 1, m).
        of_rows: The vector u of each iteration, (G, 1, n).
        of_columns: The vector v at first, and of each iteration, (G, 1, m).
    """

    plan: Tensor
    factors: tuple[Tensor, Tensor]
    masses: tuple[Tensor, Tensor]
    of_rows: list[Tensor]
    of_columns: list[Tensor]


def scaling_sinkhorn(kernel: Tensor, rows: Tensor, columns: Tensor, *, iterations: int) -> Scaling:
    r"""Compute the plans of `kdlight.losses.optimal_transport.plan.log_sinkhorn`, without a graph.

    .. math:: u = a / (E v), \qquad v = b / (E^\top u), \qquad v^0 = 1, \qquad
              P = \operatorname{diag}(u) \, E \operatorname{diag}(v), \qquad E_{ij} = e^{K_{ij}}

    Args:
        kernel: The negative cost, divided by epsilon, (G, n, m), see `can_scale`.
        rows: True at rows that are points, (G, n).
        columns: True at columns that are points, (G, m).
        iterations: Updates of both vectors, u first.

    Cuturi, Sinkhorn Distances: Lightspeed Computation of Optimal Transport, 2013.

    >>> every = torch.ones(1, 2, dtype=torch.bool)
    >>> scaling_sinkhorn(torch.zeros(1, 2, 2), every, every, iterations=1).plan.float()
    tensor([[[0.2500, 0.2500],
             [0.2500, 0.2500]]])
    """
    a, b = (_masses(points) for points in (rows, columns))
    kernel = kernel.double()
    # the first u takes up what is subtracted from a row
    factors = (kernel - kernel.amax(2, keepdim=True)).exp_()
    turned = factors.mT.contiguous()  # a row times a matrix is faster than its transpose
    v = columns.double().unsqueeze(1)
    us, vs = [], [v]
    for _ in range(iterations):
        u = a / torch.bmm(v, turned)
        v = b / torch.bmm(u, factors)
        us.append(u)
        vs.append(v)
    return Scaling(factors * us[-1].mT * v, (factors, turned), (a, b), us, vs)


def scaling_grad(scaling: Scaling, grad: Tensor) -> Tensor:
    """Gradient in the kernel, given that in the plan, (G, n, m) -> (G, n, m), in float64.

    It goes back through all iterations. The gradients in the factors of all of them are two
    products of the vectors that they are made of.

    >>> every = torch.ones(1, 2, dtype=torch.bool)
    >>> scaling = scaling_sinkhorn(torch.zeros(1, 2, 2), every, every, iterations=1)
    >>> scaling_grad(scaling, torch.eye(2)[None]).float()
    tensor([[[ 0.1250, -0.1250],
             [-0.1250,  0.1250]]])
    """
    (factors, turned), us, vs = scaling.factors, scaling.of_rows, scaling.of_columns
    total = scaling.plan * grad
    # u is a quotient: a gradient g in log u is -g u / a in the product that a is divided by, and a
    # does not depend on the point, so that it can be part of the matrix; `of_u` is g u
    per_row, per_column = (-1 / mass.amax(2, keepdim=True) for mass in scaling.masses)
    to_u, to_v = turned * per_column, factors * per_row
    all_u, all_v = torch.cat(us, 1), torch.cat(vs[:-1], 1)
    u_squares, v_squares = (each.square().split(1, 1) for each in (all_u, all_v))
    of_v = total.sum(1, keepdim=True) * vs[-1]
    direct: Tensor | None = total.sum(2).unsqueeze(1) * us[-1]
    of_us, of_vs = [], []
    for u_square, v_square in zip(reversed(u_squares), reversed(v_squares), strict=True):
        of_vs.append(of_v)
        of_u = u_square * torch.bmm(of_v, to_u)
        if direct is not None:  # the plan itself depends on the last u
            of_u, direct = of_u + direct, None
        of_us.append(of_u)
        of_v = v_square * torch.bmm(of_u, to_v)
    outer = torch.bmm(all_u.mT, torch.cat(of_vs[::-1], 1) * per_column)
    outer.baddbmm_((torch.cat(of_us[::-1], 1) * per_row).mT, all_v)
    return total.add_(outer.mul_(factors))


def _masses(points: Tensor) -> Tensor:
    return (points.double() / points.sum(-1, keepdim=True)).unsqueeze(1)
