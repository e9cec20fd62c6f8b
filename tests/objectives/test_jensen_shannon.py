"""Jensen-Shannon: a hand-worked value, its bound, and both KLs at its ends."""

from __future__ import annotations

from math import log

import pytest
import torch

from kdlight.objectives import ForwardKL, JensenShannon, LossInputs, ReverseKL
from tests.support.objectives import check_attributes, check_refused, grad, one_position


def test_both_sides_are_compared_with_the_mixture() -> None:
    # p = (0.2, 0.8), q = (0.5, 0.5), m = (0.35, 0.65)
    teacher = 0.2 * log(0.2 / 0.35) + 0.8 * log(0.8 / 0.65)
    student = 0.5 * log(0.5 / 0.35) + 0.5 * log(0.5 / 0.65)
    value = JensenShannon()(one_position((0.5, 0.5), (0.2, 0.8))).mean().item()
    assert value == pytest.approx((teacher + student) / 2)


def test_it_is_bounded_where_a_kl_is_infinite() -> None:
    value = JensenShannon()(one_position((1.0, 0.0), (0.0, 1.0))).mean().item()
    assert value == pytest.approx(log(2))


@pytest.mark.parametrize(("beta", "kl"), [(0.0, ForwardKL), (1.0, ReverseKL)])
def test_the_kls_are_its_ends(beta: float, kl: type, inputs: LossInputs) -> None:
    loss, expected = JensenShannon(beta=beta)(inputs), kl()(inputs)
    torch.testing.assert_close(loss.total, expected.total)
    torch.testing.assert_close(grad(loss, inputs), grad(expected, inputs))


def test_beta_may_change_and_is_checked(inputs: LossInputs) -> None:
    check_attributes(JensenShannon, inputs, beta=0.2)
    check_refused(JensenShannon, beta=1.1)
