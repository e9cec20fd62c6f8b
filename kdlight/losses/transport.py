"""Entropic optimal transport between small sets of points, given what each pair costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from kdlight.losses.log_sinkhorn import log_sinkhorn
from kdlight.losses.transport_slope import converged_slope

GRADIENTS = ("unrolled", "implicit", "detached")
SOLVERS = ("torch", "pot")


def check_transport(
    *,
    epsilon: float = 0.1,
    iterations: int = 20,
    gradient: str = "unrolled",
    solver: str = "torch",
) -> None:
    """Refuse hyper-parameters that no transport can be made with.

    Raises:
        ValueError: Naming the argument and what it may be.
    """
    if not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon must be positive and finite, got {epsilon}")
    if not (isinstance(iterations, int) and iterations >= 1):
        raise ValueError(f"iterations must be a whole number of at least 1, got {iterations}")
    if gradient not in GRADIENTS:
        raise ValueError(f"gradient must be one of {', '.join(GRADIENTS)}, got {gradient!r}")
    if solver not in SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {solver!r}")


def transport_costs(
    costs: Sequence[Tensor],
    *,
    epsilon: float | Tensor = 0.1,
    iterations: int = 20,
    gradient: str = "unrolled",
    solver: str = "torch",
) -> Tensor:
    r"""Cost of the entropic plan of each problem, G matrices (n, m) -> (G,).

    .. math:: \langle P, C \rangle, \qquad P_{ij} = \exp(f_i + g_j - C_{ij} / \varepsilon)

    P has mass 1, uniform marginals 1/n and 1/m (the second exactly), and no entropy term counts.
    The potentials f and g start at 0 and take turns, f first, for a fixed number of iterations: the
    number is part of the loss, not of the precision. In log space no epsilon is too small.

    Args:
        costs: Cost matrices, of any sizes of at least one point a side.
        epsilon: Strength of the entropic smoothing; a tensor (G,) has one for each problem.
        iterations: Turns of both potentials.
        gradient: ``"unrolled"`` through all turns; ``"implicit"``, that of the converged plan, from
            one linear system; ``"detached"``, the plan alone, which is the gradient of the cost
            with its entropy term and not that of the cost.
        solver: ``"torch"``, or ``"pot"`` for the same plan by Python Optimal Transport.

    Raises:
        ImportError: If POT is asked for and missing.

    Cuturi, Sinkhorn Distances: Lightspeed Computation of Optimal Transport, 2013.

    >>> transport_costs([torch.tensor([[0.0, 1.0], [2.0, 0.5]])], epsilon=0.01)
    tensor([0.2500])
    """
    plans = _pot if solver == "pot" else log_sinkhorn
    cost, rows, columns = _stack(costs)
    scale = torch.as_tensor(epsilon, dtype=cost.dtype, device=cost.device)
    scale = scale.expand(len(cost))[:, None, None]
    if gradient == "unrolled":
        plan = plans(-cost / scale, rows, columns, iterations=iterations)
        return (plan * cost).sum((-1, -2))
    with torch.no_grad():
        plan = plans(-cost / scale, rows, columns, iterations=iterations)
        value = (plan * cost).sum((-1, -2))
        slope = plan if gradient == "detached" else converged_slope(plan, cost, scale)
    linear = (slope * cost).sum((-1, -2))  # the value above, with this slope
    return value + (linear - linear.detach())


def _stack(costs: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Problems of different sizes as one batch, and which of its rows and columns are points."""
    if len(costs) == 1:
        cost = costs[0][None]
        rows, columns = (cost.new_ones(1, size, dtype=torch.bool) for size in cost.shape[1:])
        return cost, rows, columns
    n, m = (max(cost.shape[side] for cost in costs) for side in (0, 1))
    cost = torch.stack([pad(c, (0, m - c.shape[1], 0, n - c.shape[0])) for c in costs])
    sizes = torch.tensor([each.shape for each in costs], device=cost.device)
    rows = torch.arange(n, device=cost.device) < sizes[:, :1]
    columns = torch.arange(m, device=cost.device) < sizes[:, 1:]
    return cost, rows, columns


def _pot(kernel: Tensor, rows: Tensor, columns: Tensor, *, iterations: int) -> Tensor:
    try:
        from ot.batch import solve_batch
    except ImportError as error:
        raise ImportError("solver='pot' needs POT: pip install 'pot>=0.9.7'") from error
    plans = []
    for one, n, m in zip(kernel, rows.sum(-1).tolist(), columns.sum(-1).tolist(), strict=True):
        solved: Any = solve_batch(
            -one[None, :n, :m],
            reg=1.0,
            max_iter=iterations,
            tol=0.0,
            method="log_sinkhorn",  # "sinkhorn" makes its potentials on the CPU
            grad="autodiff",
        )
        plans.append(pad(solved.plan[0], (0, kernel.shape[2] - m, 0, kernel.shape[1] - n)))
    return torch.stack(plans)
