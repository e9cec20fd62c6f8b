"""Cost of entropic optimal transport between small sets of points, given a cost per pair."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from kdlight.losses.device_numbers import numbers_like
from kdlight.losses.optimal_transport.plan import log_sinkhorn, pot_sinkhorn
from kdlight.losses.optimal_transport.scaling import can_scale, scaling_grad, scaling_sinkhorn

CUT_OFF = 1e-12
"""Parts of a plan that are coupled by less than this count as separate problems."""


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

    P has mass 1 and uniform marginals 1/n and 1/m, of which the second is exact. The entropy term
    is not part of the value. The potentials f and g start at 0 and are updated alternately, f
    first, for a fixed number of iterations: it is a hyper-parameter of the loss, and not only a
    matter of precision. As this is done in log space, epsilon may be arbitrarily small.

    Args:
        costs: Cost matrices, of any sizes with at least one point per side.
        epsilon: Strength of the entropic regularization; a tensor (G,) has one per problem.
        iterations: Updates of both potentials.
        gradient: ``"unrolled"``, through all iterations; ``"implicit"``, that of the converged
            plan, from one linear system; ``"detached"``, the plan itself, which is the gradient of
            the cost with its entropy term, and not that of the cost.
        solver: ``"torch"``, or ``"pot"`` for the same plan by Python Optimal Transport.

    Returns:
        One cost per problem.

    Raises:
        ImportError: If the solver is ``"pot"`` and POT is not installed.

    Cuturi, Sinkhorn Distances: Lightspeed Computation of Optimal Transport, 2013.

    >>> transport_costs([torch.tensor([[0.0, 1.0], [2.0, 0.5]])], epsilon=0.01)
    tensor([0.2500])
    """
    cost, rows, columns = _stack(costs)
    scale = epsilon.to(cost)[:, None, None] if isinstance(epsilon, Tensor) else epsilon
    plans = partial(log_sinkhorn if solver == "torch" else pot_sinkhorn, iterations=iterations)
    kernel, scaling = cost.detach() / -scale, None
    if solver == "torch" and can_scale(kernel):
        scaling = scaling_sinkhorn(kernel, rows, columns, iterations=iterations)
    elif gradient == "unrolled":
        return (plans(cost / -scale, rows, columns) * cost).sum((-1, -2))
    with torch.no_grad():
        plan = scaling.plan if scaling else plans(kernel, rows, columns)
        wide = cost.to(plan)
        value = (plan * wide).sum((-1, -2)).to(cost)
        if not cost.requires_grad:
            return value
        grad = plan
        if gradient == "implicit":
            grad = implicit_grad(plan, wide, scale)
        elif scaling and gradient == "unrolled":
            grad = plan - scaling_grad(scaling, wide) / scale
    return _WithGradient.apply(cost, value, grad.to(cost))


class _WithGradient(Function):
    """A value whose gradient is known."""

    @staticmethod
    def forward(ctx: Any, cost: Tensor, value: Tensor, grad: Tensor) -> Tensor:
        ctx.save_for_backward(grad)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.saved_tensors[0] * outer[:, None, None], None, None


def implicit_grad(plan: Tensor, cost: Tensor, epsilon: float | Tensor) -> Tensor:
    r"""Derivative of :math:`\langle P, C \rangle` with respect to C, (G, n, m) -> (G, n, m).

    .. math:: G_{ij} = P_{ij} \bigl(1 - (C_{ij} - a_i - b_j) / \varepsilon \bigr), \qquad
              \begin{pmatrix} \operatorname{diag} P 1 & P \\
              P^\top & \operatorname{diag} P^\top 1 \end{pmatrix}
              \begin{pmatrix} a \\ b \end{pmatrix} =
              \begin{pmatrix} (P \circ C) 1 \\ (P \circ C)^\top 1 \end{pmatrix}

    It is exact where P has converged. The system is singular, as a constant can be moved from a to
    b, also within each separate part of a plan. Any solution gives the same derivative.

    Args:
        plan: Transport plans; rows and columns of zeros are no points.
        cost: Their costs.
        epsilon: Strength of the regularization, a number or (G, 1, 1).

    Luise, Rudi, Pontil, Ciliberto, Differential Properties of Sinkhorn Approximation for Learning
    with Wasserstein Distance, 2018.
    """
    dtype, (plan, cost) = plan.dtype, (x.double() for x in (plan, cost))
    epsilon = epsilon.double() if isinstance(epsilon, Tensor) else epsilon
    rows, columns = (plan.sum(side, keepdim=True) for side in (2, 1))
    rows, columns = (torch.where(mass > 0, mass, 1.0) for mass in (rows, columns))
    # With both masses scaled to 1 the matrix is [[1, K], [K', 1]], and K'K lies in [0, 1].
    root = rows.sqrt() * columns.sqrt()
    coupling, weighted = plan / root, plan * cost
    of_rows = weighted.sum(2, keepdim=True) / rows.sqrt()
    of_columns = weighted.sum(1, keepdim=True).mT / columns.sqrt().mT
    values, vectors = torch.linalg.eigh(coupling.mT @ coupling)
    gaps = 1.0 - values
    inverse = torch.where(gaps > CUT_OFF, 1.0 / gaps, 0.0)[..., None]
    b = vectors @ (inverse * (vectors.mT @ (of_columns - coupling.mT @ of_rows)))
    a = of_rows - coupling @ b
    shift = a / rows.sqrt() + (b / columns.sqrt().mT).mT
    return (plan * (1.0 - (cost - shift) / epsilon)).to(dtype)


def _stack(costs: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Pad problems of different sizes to one batch, with masks of valid rows and columns."""
    if len(costs) == 1:
        cost = costs[0][None]
        rows, columns = (cost.new_ones(1, size, dtype=torch.bool) for size in cost.shape[1:])
        return cost, rows, columns
    n, m = (max(cost.shape[side] for cost in costs) for side in (0, 1))
    cost = torch.stack([pad(c, (0, m - c.shape[1], 0, n - c.shape[0])) for c in costs])
    places = (torch.arange(size, device=cost.device) for size in (n, m))
    rows, columns = (
        place < numbers_like([each.shape[side] for each in costs], place).unsqueeze(-1)
        for side, place in enumerate(places)
    )
    return cost, rows, columns
