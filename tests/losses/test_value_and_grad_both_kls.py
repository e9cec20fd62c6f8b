"""Closed forms of losses with both directions of KL are autograd's."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from kdlight import losses
from kdlight.losses import value_and_grad_both_kls as closed
from kdlight.losses.balanced import balance
from kdlight.losses.value_and_grad import WIDE
from tests.losses.test_value_and_grad import check

CASES: list[tuple[str, dict[str, Any]]] = [
    ("symmetric_kl", {"forward_weight": 0.3}),
    ("symmetric_kl", {"forward_weight": 1.0}),
    ("adaptive_kl", {"head_mass": 0.0}),
    ("adaptive_kl", {"head_mass": 0.5}),
    ("adaptive_kl", {"head_mass": 1.0}),
    ("todi", {}),
]


@pytest.mark.parametrize("width", [7, WIDE], ids=["narrow", "wide"])
@pytest.mark.parametrize("spread", [0.1, 3.0, 40.0], ids=["flat", "usual", "peaked"])
@pytest.mark.parametrize(("name", "hyper"), CASES)
def test_value_and_gradient_are_those_of_autograd(
    name: str, hyper: dict[str, Any], spread: float, width: int
) -> None:
    generator = torch.Generator().manual_seed(1)
    teacher = spread * torch.randn(3, width, dtype=torch.float64, generator=generator)
    teacher[1] = teacher[1].bfloat16().double()  # equally likely tokens
    teacher[2] = -60.0
    teacher[2, 4] = 0.0  # one-hot
    before = teacher.clone()
    check(
        lambda z, t: getattr(closed, name)(z, t, **hyper),
        lambda z, t: getattr(losses, name)(z, t, **hyper),
        width,
        teacher,
    )
    assert torch.equal(teacher, before)


@pytest.mark.parametrize(("name", "hyper"), CASES)
def test_probabilities_that_underflow_leave_gradients_finite(
    name: str, hyper: dict[str, Any]
) -> None:
    student, teacher = torch.zeros(1, 5), torch.zeros(1, 5)
    student[0, 1:3], teacher[0, 2:4] = -300.0, -300.0
    values, grad = getattr(closed, name)(student, teacher, **hyper)
    leaf = student.clone().requires_grad_()
    expected = getattr(losses, name)(leaf, teacher, **hyper)
    torch.testing.assert_close(values, expected.detach())
    torch.testing.assert_close(grad, torch.autograd.grad(expected.sum(), leaf)[0])


@pytest.mark.parametrize(("name", "hyper"), CASES)
def test_a_student_that_is_its_teacher_has_no_loss(name: str, hyper: dict[str, Any]) -> None:
    logits = 3 * torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    for result in getattr(closed, name)(logits, logits.clone(), **hyper):
        torch.testing.assert_close(result, torch.zeros_like(result), rtol=0, atol=1e-6)


@pytest.mark.parametrize("weighting", ["hard", "soft"])
@pytest.mark.parametrize("confidence", ["entropy", "max_prob"])
def test_a_balanced_kl_is_that_of_autograd(confidence: Any, weighting: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    teacher = 3 * torch.randn(3, 7, dtype=torch.float64, generator=generator)
    weigh = partial(balance, weighting=weighting, normalise=True)
    check(
        lambda z, t: closed.balanced_kl(z, t, weigh, confidence),
        lambda z, t: losses.balanced_kl(
            z, t, confidence=confidence, weighting=weighting, normalise=True
        ),
        7,
        teacher,
    )
