"""Forward-mode derivatives of autograd functions, for `torch.func.jvp` and forward-over-reverse."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor


def apply(function: Any, *inputs: Any) -> Tensor:
    """Call an autograd function that defines ``derivative(ctx, *tangents)``, its forward mode.

    torch takes that from a method ``jvp``, and torch.compile traces no function that has one. So it
    is added where nothing is traced.

    >>> class Double(torch.autograd.Function):
    ...     forward = staticmethod(lambda x: 2 * x)
    ...     setup_context = staticmethod(lambda ctx, inputs, output: None)
    ...     derivative = staticmethod(lambda ctx, tangent: 2 * tangent)
    >>> apply(Double, torch.ones(1))  # or torch.func.jvp(partial(apply, Double), ...)
    tensor([2.])
    """
    traced = torch.compiler.is_compiling()
    return (function if traced else _with_forward_mode(function)).apply(*inputs)


def save(ctx: Any, *tensors: Tensor) -> None:
    """Save tensors for ``derivative``, which is called at once, and so keeps no memory."""
    if not torch.compiler.is_compiling():
        ctx.save_for_forward(*tensors)


def along(*pairs: tuple[Tensor | None, Tensor | None]) -> Tensor:
    """Sum of rows of gradients times tangents, (..., V), (..., V) -> (...), where there are any.

    >>> along((torch.tensor([2.0, 3.0]), torch.tensor([1.0, -1.0])), (torch.ones(2), None))
    tensor(-1.)
    """
    products = [
        (grad * tangent).sum(-1)
        for grad, tangent in pairs
        if grad is not None and tangent is not None
    ]
    return sum(products[1:], products[0])


@cache
def _with_forward_mode(function: Any) -> Any:
    return type(function.__name__, (function,), {"jvp": staticmethod(function.derivative)})
