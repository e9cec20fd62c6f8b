"""Forward KL: a hand-worked value, its temperature, and tokens of probability 0."""

from __future__ import annotations

from math import inf, log

import pytest
import torch

from kdlight.objectives import ForwardKL
from tests.support.objectives import grad, one_position, tempered

P, Q = (0.2, 0.8), (0.5, 0.5)


def forward_kl(temperature: float) -> float:
    p, q = tempered(P, temperature), tempered(Q, temperature)
    return sum(a * log(a / b) for a, b in zip(p, q, strict=True))


def test_the_teacher_weights_the_logarithms() -> None:
    value = 0.2 * log(0.2 / 0.5) + 0.8 * log(0.8 / 0.5)
    assert forward_kl(1.0) == pytest.approx(value)
    assert ForwardKL()(one_position(Q, P)).mean().item() == pytest.approx(value)


def test_the_temperature_divides_the_logits_of_both_sides() -> None:
    for squared, factor in ((True, 16), (False, 1)):
        objective = ForwardKL(temperature=4.0, temperature_squared=squared)
        value = objective(one_position(Q, P)).mean().item()
        assert value == pytest.approx(factor * forward_kl(4.0))


def test_the_gradient_is_the_difference_of_the_probabilities() -> None:
    inputs = one_position(Q, P)
    expected = torch.tensor([[0.5 - 0.2, 0.5 - 0.8]], dtype=torch.float64)
    torch.testing.assert_close(grad(ForwardKL()(inputs), inputs), expected)


def test_the_student_must_cover_the_teacher() -> None:
    assert ForwardKL()(one_position((1.0, 0.0), (0.5, 0.5))).mean() == inf
    assert ForwardKL()(one_position((0.5, 0.5), (1.0, 0.0))).mean().item() == pytest.approx(log(2))
