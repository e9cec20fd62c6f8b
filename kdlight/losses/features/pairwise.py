"""Distances between all rows of a batch, whose gradient is 0 between equal rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from kdlight.losses import forward_mode


class _PairwiseDistances(Function):
    """`torch.cdist` of rows with themselves, with derivatives of any order in both modes.

    The differences are not kept: this takes the memory of the distances.
    """

    generate_vmap_rule = True  # per-batch gradients with torch.func

    @staticmethod
    def forward(rows: Tensor) -> Tensor:
        # A matrix product would lose the distances of rows that are close to each other.
        return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)
        forward_mode.save(ctx, *inputs, output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        rows, distances = ctx.saved_tensors
        weights = (grad + grad.mT) / _without_zeros(distances)
        with torch.autocast(rows.device.type, enabled=False):
            return rows * weights.sum(-1, keepdim=True) - weights @ rows

    @staticmethod
    def derivative(ctx: Any, tangent: Tensor) -> Tensor:
        rows, distances = ctx.saved_tensors
        with torch.autocast(rows.device.type, enabled=False):
            own, cross = (rows * tangent).sum(-1), rows @ tangent.mT
        return (own[:, None] + own - cross - cross.mT) / _without_zeros(distances)


def _without_zeros(distances: Tensor) -> Tensor:
    return distances.masked_fill(distances == 0, torch.inf)  # what is divided by it becomes 0


def pairwise_distances(rows: Tensor) -> Tensor:
    r"""Euclidean distances between all rows, (B, D) -> (B, B).

    .. math:: d_{ij} = \| x_i - x_j \|_2

    The gradient between equal rows is 0. Rows far from 0 compared with their differences should be
    shifted first, see `kdlight.losses.features.normalization.shifted_to_mean`.

    >>> pairwise_distances(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    tensor([[0., 5.],
            [5., 0.]])
    """
    return forward_mode.apply(_PairwiseDistances, rows)
