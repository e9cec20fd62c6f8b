"""Closed forms of KL divergences to a mixture are autograd's."""

from __future__ import annotations

import pytest
import torch

from kdlight import losses
from kdlight.losses import value_and_grad_mixtures as closed
from kdlight.losses.value_and_grad import WIDE
from tests.losses.test_value_and_grad import check

NAMES = ["skew_forward_kl", "skew_reverse_kl"]


@pytest.mark.parametrize("width", [7, WIDE], ids=["narrow", "wide"])
@pytest.mark.parametrize("skew", [0.01, 0.1, 0.7])
@pytest.mark.parametrize("name", NAMES)
def test_value_and_gradient_are_those_of_autograd(name: str, skew: float, width: int) -> None:
    generator = torch.Generator().manual_seed(1)
    teacher = 3 * torch.randn(3, width, dtype=torch.float64, generator=generator)
    before = teacher.clone()
    check(
        lambda z, t: getattr(closed, name)(z, t, skew),
        lambda z, t: getattr(losses, name)(z, t, skew=skew),
        width,
        teacher,
    )
    assert torch.equal(teacher, before)


@pytest.mark.parametrize("name", NAMES)
def test_probabilities_that_underflow_leave_gradients_finite(name: str) -> None:
    student, teacher = torch.zeros(1, 5), torch.zeros(1, 5)
    student[0, 1:3], teacher[0, 2:4] = -300.0, -300.0
    values, grad = getattr(closed, name)(student, teacher, 0.1)
    leaf = student.clone().requires_grad_()
    expected = getattr(losses, name)(leaf, teacher, skew=0.1)
    torch.testing.assert_close(values, expected.detach())
    torch.testing.assert_close(grad, torch.autograd.grad(expected.sum(), leaf)[0])


@pytest.mark.parametrize("skew", [0.1, 0.7, 0.9999])
@pytest.mark.parametrize("name", NAMES)
def test_a_student_that_is_its_teacher_has_no_loss(name: str, skew: float) -> None:
    logits = 3 * torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    for result in getattr(closed, name)(logits, logits.clone(), skew):
        assert (result == 0).all()
