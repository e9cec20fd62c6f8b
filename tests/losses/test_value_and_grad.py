"""Losses in closed form: value and gradient are those of autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight import losses
from kdlight.losses import value_and_grad

CASES: list[tuple[str, dict[str, Any]]] = [
    ("forward_kl", {}),
    ("reverse_kl", {}),
    ("jensen_shannon", {"beta": 0.3}),
    ("total_variation", {}),
    ("taid", {"t": 0.4}),
]


def check(
    closed: Callable[..., tuple[Tensor, Tensor]],
    loss: Callable[..., Tensor],
    width: int,
    *rest: Any,
) -> None:
    generator = torch.Generator().manual_seed(0)
    student = 3 * torch.randn(3, width, dtype=torch.float64, generator=generator)
    before = student.clone()
    values, grad = closed(student, *rest)
    leaf = student.clone().requires_grad_()
    expected = loss(leaf, *rest)
    torch.testing.assert_close(values, expected.detach(), rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(
        grad, torch.autograd.grad(expected.sum(), leaf)[0], rtol=1e-9, atol=1e-13
    )
    assert torch.equal(student, before)


@pytest.mark.parametrize("width", [7, value_and_grad.WIDE], ids=["narrow", "wide"])
@pytest.mark.parametrize(("name", "hyper"), CASES)
def test_value_and_gradient_are_those_of_autograd(
    name: str, hyper: dict[str, Any], width: int
) -> None:
    generator = torch.Generator().manual_seed(1)
    teacher = 3 * torch.randn(3, width, dtype=torch.float64, generator=generator)
    before = teacher.clone()
    check(
        lambda z, t: getattr(value_and_grad, name)(z, t, **hyper),
        lambda z, t: getattr(losses, name)(z, t, **hyper),
        width,
        teacher,
    )
    assert torch.equal(teacher, before)


@pytest.mark.parametrize("width", [7, value_and_grad.WIDE], ids=["narrow", "wide"])
def test_cross_entropy_is_that_of_autograd(width: int) -> None:
    labels = torch.tensor([0, width - 1, 3])
    check(value_and_grad.cross_entropy, losses.cross_entropy, width, labels)


@pytest.mark.parametrize("width", [5, value_and_grad.WIDE])
def test_inner_products_are_row_by_row(width: int) -> None:
    first = torch.arange(2 * width, dtype=torch.float64).view(2, width)
    second = torch.full_like(first, 0.5)
    torch.testing.assert_close(value_and_grad.dot(first, second), first.sum(-1) / 2)
    assert value_and_grad.dot(first[:0], second[:0]).shape == (0,)


@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_outcomes_are_those_of_the_tokens_and_of_all_others(shift: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(4, 9, dtype=torch.float64, generator=generator)
    ids = torch.tensor([[1, 0], [8, 3], [2, 5], [4, 6]])
    divided = value_and_grad.set_aside(logits + shift, ids)
    p = logits.softmax(-1)
    kept, rest = p.gather(-1, ids), p.scatter(-1, ids, 0.0)
    share = rest.sum(-1, keepdim=True)
    torch.testing.assert_close(divided.outcomes.softmax(-1), torch.cat([kept, share], -1))
    torch.testing.assert_close(divided.probabilities, rest / share)
    others = divided.others - divided.log_z.unsqueeze(-1)
    torch.testing.assert_close(others.exp(), divided.probabilities)
