"""Inner products of all rows with each other, in full precision also within autocast."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from kdlight.losses import forward_mode


class _InnerProducts(Function):
    """The Gram matrix. Autograd would make two products in the backward pass; symmetry, one.

    Autocast would make any of them in half precision, also a backward pass that runs within it.
    """

    generate_vmap_rule = True  # per-batch gradients with torch.func

    @staticmethod
    def forward(rows: Tensor) -> Tensor:
        return _product(rows, rows.mT)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        forward_mode.save(ctx, *inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _product(grad + grad.mT, ctx.saved_tensors[0])

    @staticmethod
    def derivative(ctx: Any, tangent: Tensor) -> Tensor:
        product = _product(tangent, ctx.saved_tensors[0].mT)
        return product + product.mT


def _product(first: Tensor, second: Tensor) -> Tensor:
    with torch.autocast(first.device.type, enabled=False):
        return first @ second


def inner_products(rows: Tensor) -> Tensor:
    r"""Inner products of rows, (..., n, D) -> (..., n, n).

    .. math:: G = X X^\top

    >>> inner_products(torch.tensor([[1.0, 0.0], [1.0, 2.0]]))
    tensor([[1., 1.],
            [1., 5.]])
    """
    return forward_mode.apply(_InnerProducts, rows)
