"""The derivatives of a value of each row along a direction in weight space."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from kdlight.callbacks.bilevel.weights import MovedWeights

Values = Callable[[], Tensor]
"""Computes the values ``(n,)`` at the present weights, with the same random numbers each time."""


@torch.no_grad()
def finite_differences(
    values: Values, moved: MovedWeights, direction: Sequence[Tensor], step: float
) -> Tensor:
    """Return the derivatives ``(n,)`` by a central difference: two passes without a gradient.

    Example:
        >>> weight = torch.tensor([3.0])
        >>> squares = lambda: weight * torch.tensor([1.0, 2.0])
        >>> finite_differences(squares, MovedWeights([weight]), [torch.tensor([1.0])], 0.5)
        tensor([1., 2.])
    """
    ends = []
    for scale in (step, -step):
        moved.to(direction, scale)
        ends.append(values())
    moved.back()
    return (ends[0] - ends[1]) / (2 * step)


def exact(values: Values, weights: Sequence[Tensor], direction: Sequence[Tensor]) -> Tensor:
    """Return the derivatives ``(n,)`` by autograd, which differentiates a gradient.

    The gradient of a sum of the rows, each times a share, is linear in the shares. So the gradient
    of its product with ``direction``, in the shares, has the derivative of each row.

    Example:
        >>> weight = torch.tensor([3.0], requires_grad=True)
        >>> squares = lambda: weight.square() * torch.tensor([1.0, 2.0])
        >>> exact(squares, [weight], [torch.tensor([1.0])])
        tensor([ 6., 12.])
    """
    # other implementations of attention have no second derivative
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        rows = values()
        shares = torch.zeros_like(rows, requires_grad=True)
        found = torch.autograd.grad(rows, weights, shares, create_graph=True, allow_unused=True)
        products = [
            (gradient * along).sum()
            for gradient, along in zip(found, direction, strict=True)
            if gradient is not None
        ]
        if not products:
            return torch.zeros_like(rows)
        return torch.autograd.grad(torch.stack(products).sum(), shares)[0]
