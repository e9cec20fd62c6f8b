"""ToDi: a hand-worked value, and the direction of its gradient."""

from __future__ import annotations

from math import log

import pytest
import torch

from kdlight.objectives import ForwardKL, LossInputs, ReverseKL, ToDi
from tests.support.objectives import grad, one_position


def test_each_entry_has_the_weight_of_the_ratio() -> None:
    # a = p / (p + q) is (2/7, 8/13)
    value = 2 / 7 * 0.2 * log(0.2 / 0.5) + 5 / 7 * 0.5 * log(0.5 / 0.2)
    value += 8 / 13 * 0.8 * log(0.8 / 0.5) + 5 / 13 * 0.5 * log(0.5 / 0.8)
    loss = ToDi()(one_position((0.5, 0.5), (0.2, 0.8)))
    assert loss.mean().item() == pytest.approx(value)


def test_the_gradient_is_neither_that_of_a_kl_nor_of_their_mean(inputs: LossInputs) -> None:
    own = grad(ToDi()(inputs), inputs)
    forward, reverse = grad(ForwardKL()(inputs), inputs), grad(ReverseKL()(inputs), inputs)
    for other in (forward, reverse, (forward + reverse) / 2):
        assert (own - other).abs().max() > 1e-3


def test_a_step_raises_what_is_underestimated() -> None:
    inputs = one_position((0.7, 0.2, 0.1), (0.1, 0.8, 0.1))
    direction = -grad(ToDi()(inputs), inputs)[0]
    assert direction[1] > 0 > direction[0]
    assert torch.isfinite(direction).all()
