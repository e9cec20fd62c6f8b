"""Features divided by their size, with finite gradients where that is 0."""

from __future__ import annotations

import torch
from torch import Tensor


def scaled(features: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Divide by the largest magnitude along ``dim``, where it is not 0, (...) -> (...).

    This is for functions that do not depend on the scale: squares then neither overflow nor
    underflow. The divisor is a constant for autograd, which leaves the gradient of such a function
    exact.

    >>> scaled(torch.tensor([[2.0, -4.0], [0.0, 0.0]]), -1)
    tensor([[ 0.5000, -1.0000],
            [ 0.0000,  0.0000]])
    """
    if not features.numel():
        return features
    largest = features.detach().abs().amax(dim, keepdim=True)
    return features / largest.masked_fill(largest == 0, 1.0)


def unit_rows(features: Tensor) -> Tensor:
    r"""Divide by the Euclidean norm of the last axis, (..., D) -> (..., D).

    .. math:: x / \| x \|_2

    A row of zeros remains zero, and its gradient is 0.

    >>> unit_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    features = scaled(features, -1)
    return features * inverse_norms(features)


def inverse_norms(features: Tensor) -> Tensor:
    """One over the Euclidean norm of the last axis, 0 where it is 0, (..., D) -> (..., 1).

    >>> inverse_norms(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.2000],
            [0.0000]])
    """
    squares = features.square().sum(-1, keepdim=True)
    return squares.masked_fill(squares == 0, torch.inf).rsqrt()


def shifted_to_mean(rows: Tensor) -> Tensor:
    """Subtract the mean row as a constant, for functions of differences of rows, (B, D) -> (B, D).

    Far from 0, sums of products would be rounded to fewer digits than the differences have.

    >>> shifted_to_mean(torch.tensor([[1001.0], [1003.0]])).tolist()
    [[-1.0], [1.0]]
    """
    return rows - rows.detach().mean(0)
