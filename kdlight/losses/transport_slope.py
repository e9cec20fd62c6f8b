"""The gradient of the cost of a converged entropic plan, from one linear system."""

from __future__ import annotations

import torch
from torch import Tensor

CUT_OFF = 1e-12
"""Parts of a plan that hang together by less than this are taken for problems of their own."""


def converged_slope(plan: Tensor, cost: Tensor, epsilon: Tensor) -> Tensor:
    r"""Derivative of :math:`\langle P, C \rangle` with respect to C, (G, n, m) -> (G, n, m).

    .. math:: G_{ij} = P_{ij} \bigl(1 - (C_{ij} - a_i - b_j) / \varepsilon \bigr), \qquad
              \begin{pmatrix} \operatorname{diag} P 1 & P \\
              P^\top & \operatorname{diag} P^\top 1 \end{pmatrix}
              \begin{pmatrix} a \\ b \end{pmatrix} =
              \begin{pmatrix} (P \circ C) 1 \\ (P \circ C)^\top 1 \end{pmatrix}

    Exact where P has converged. The system is singular (a constant may move from a to b, and within
    each part of a plan that falls apart), and any solution serves.

    Args:
        plan: Transport plans; rows and columns of zeros are no points.
        cost: What they transport.
        epsilon: (G, 1, 1).

    Luise, Rudi, Pontil, Ciliberto, Differential Properties of Sinkhorn Approximation for Learning
    with Wasserstein Distance, 2018.
    """
    dtype, (plan, cost, epsilon) = plan.dtype, (x.double() for x in (plan, cost, epsilon))
    rows, columns = (plan.sum(side, keepdim=True) for side in (2, 1))
    rows, columns = (torch.where(mass > 0, mass, 1.0) for mass in (rows, columns))
    # With both masses scaled to 1 the matrix is [[1, K], [K', 1]], and K'K lies in [0, 1].
    root = rows.sqrt() * columns.sqrt()
    coupling, worth = plan / root, plan * cost
    of_rows = worth.sum(2, keepdim=True) / rows.sqrt()
    of_columns = worth.sum(1, keepdim=True).mT / columns.sqrt().mT
    values, vectors = torch.linalg.eigh(coupling.mT @ coupling)
    gaps = 1.0 - values
    inverse = torch.where(gaps > CUT_OFF, 1.0 / gaps, 0.0)[..., None]
    b = vectors @ (inverse * (vectors.mT @ (of_columns - coupling.mT @ of_rows)))
    a = of_rows - coupling @ b
    shift = a / rows.sqrt() + (b / columns.sqrt().mT).mT
    return (plan * (1.0 - (cost - shift) / epsilon)).to(dtype)
