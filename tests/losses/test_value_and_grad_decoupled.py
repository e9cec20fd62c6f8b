"""The closed form of decoupled KL is autograd's."""

from __future__ import annotations

import pytest
import torch

from kdlight import losses
from kdlight.losses import value_and_grad_decoupled as closed
from kdlight.losses.value_and_grad import WIDE
from tests.losses.test_value_and_grad import check


@pytest.mark.parametrize("weights", [(1.0, 8.0), (0.0, 1.0), (2.0, 0.0)])
@pytest.mark.parametrize("width", [2, 7, WIDE])
def test_value_and_gradient_are_those_of_autograd(width: int, weights: tuple[float, float]) -> None:
    generator = torch.Generator().manual_seed(1)
    teacher = 3 * torch.randn(3, width, dtype=torch.float64, generator=generator)
    names = dict(zip(("target_weight", "non_target_weight"), weights, strict=True))
    for labels in (torch.tensor([0, width - 1, -100]), teacher.argmax(-1)):
        check(
            lambda z, t, y: closed.decoupled_kl(z, t, y, *weights),
            lambda z, t, y: losses.decoupled_kl(z, t, y, **names),
            width,
            teacher,
            labels,
        )


def test_a_certain_target_keeps_all_digits_of_the_others() -> None:
    student, teacher = torch.zeros(1, 5), torch.tensor([[60.0, 0.0, 1.0, 2.0, 3.0]])
    labels, leaf = torch.tensor([0]), torch.zeros(1, 5, requires_grad=True)
    values, grad = closed.decoupled_kl(student, teacher, labels, 1.0, 8.0)
    expected = losses.decoupled_kl(leaf, teacher, labels)
    torch.testing.assert_close(values, expected.detach())
    torch.testing.assert_close(grad, torch.autograd.grad(expected.sum(), leaf)[0])


@pytest.mark.parametrize("size", [1e5, 1e12])
def test_large_logits_do_not_swallow_what_is_set_aside(size: float) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = size * torch.randn(2, 4, 6, generator=generator)
    labels, leaf = teacher.argmax(-1), student.clone().requires_grad_()
    values, grad = closed.decoupled_kl(student, teacher, labels, 1.0, 8.0)
    expected = losses.decoupled_kl(leaf, teacher, labels)
    torch.testing.assert_close(values, expected.detach())
    torch.testing.assert_close(grad, torch.autograd.grad(expected.sum(), leaf)[0])


def test_weights_are_not_rounded_to_the_default_dtype() -> None:
    student, teacher = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    arguments = student, teacher, torch.tensor([0, 5, -100, 2]), 1.37, 2.61
    expected = closed.decoupled_kl(*arguments)
    torch.set_default_dtype(torch.bfloat16)
    try:
        found = closed.decoupled_kl(*arguments)
    finally:
        torch.set_default_dtype(torch.float32)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
