"""The closed form of the alpha-beta divergence is autograd's."""

from __future__ import annotations

import pytest
import torch

from kdlight import losses
from kdlight.losses.value_and_grad import WIDE
from kdlight.losses.value_and_grad_alpha_beta import alpha_beta
from tests.losses.test_value_and_grad import check


@pytest.mark.parametrize("width", [7, WIDE], ids=["narrow", "wide"])
@pytest.mark.parametrize(("alpha", "beta"), [(0.2, 0.7), (0.5, 0.5), (0.01, 2.0)])
def test_value_and_gradient_are_those_of_autograd(alpha: float, beta: float, width: int) -> None:
    generator = torch.Generator().manual_seed(1)
    teacher = 3 * torch.randn(3, width, dtype=torch.float64, generator=generator)
    check(
        lambda z, t: alpha_beta(z, t, alpha, beta),
        lambda z, t: losses.alpha_beta(z, t, alpha=alpha, beta=beta),
        width,
        teacher,
    )


def test_a_student_that_is_its_teacher_has_no_loss_and_no_gradient() -> None:
    logits = 3 * torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    for result in alpha_beta(logits, logits.clone(), 0.2, 0.7):
        assert not result.any()


def test_what_overflows_is_not_finite() -> None:
    student, teacher = torch.tensor([[-500.0, 0.0]]), torch.zeros(1, 2)
    assert not alpha_beta(student, teacher, 0.2, 0.7)[0].isfinite().any()
    assert losses.alpha_beta(student, teacher).isfinite().all()
