"""The Gram matrix and its derivatives, within autocast and without."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from kdlight.losses.features.inner_products import inner_products


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.parametrize("shape", [(4, 3), (2, 1, 3, 5), (0, 3), (3, 0)])
def test_products_and_their_derivatives_are_those_of_autograd(shape: tuple[int, ...]) -> None:
    rows = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(inner_products(rows), rows @ rows.mT)
    weights = torch.randn_like(rows @ rows.mT)  # not symmetric
    slopes = [
        torch.autograd.grad((weights * f).sum(), rows)[0]
        for f in (inner_products(rows), rows @ rows.mT)
    ]
    torch.testing.assert_close(*slopes)
    if rows.numel():
        assert gradcheck(inner_products, rows, check_forward_ad=True, check_batched_grad=True)
        assert gradgradcheck(inner_products, rows)


def test_autocast_changes_nothing_forward_or_backward() -> None:
    rows = torch.randn(5, 7, requires_grad=True)
    plain = inner_products(rows)
    slope = torch.autograd.grad(plain[0].sum(), rows)[0]
    with torch.autocast("cpu", torch.bfloat16):
        inside = inner_products(rows)
        assert inside.dtype == torch.float32
        assert torch.equal(inside, plain)
        assert torch.equal(torch.autograd.grad(inside[0].sum(), rows)[0], slope)
