"""Autograd functions in forward mode, and traced by torch.compile."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import Function

from kdlight.losses import forward_mode


class Square(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.square()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        forward_mode.save(ctx, *inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * grad

    @staticmethod
    def derivative(ctx: Any, tangent: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * tangent


def square(x: Tensor) -> Tensor:
    return forward_mode.apply(Square, x)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_a_function_has_derivatives_in_both_modes() -> None:
    x = torch.randn(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(square, x, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(square, x)
    hessian = torch.func.jacfwd(torch.func.grad(lambda x: square(x).sum()))(x.detach())
    torch.testing.assert_close(hessian, 2 * torch.eye(3, dtype=torch.float64))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_a_function_is_traced_without_its_forward_mode() -> None:
    compiled = torch.compile(square, fullgraph=True, backend="aot_eager")
    x = torch.tensor([3.0], requires_grad=True)
    assert torch.autograd.grad(compiled(x).sum(), x)[0] == 6


def test_what_takes_no_part_has_no_product() -> None:
    rows = torch.ones(2, 3)
    total = forward_mode.along((rows, None), (None, rows), (rows, 2 * rows))
    assert torch.equal(total, torch.tensor([6.0, 6.0]))
