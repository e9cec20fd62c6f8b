"""The alpha-beta divergence and its limits."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight import losses
from tests.losses.test_losses import close, evaluate, leaf


@pytest.mark.parametrize(
    ("alpha", "beta"), [(1.0, 0.0), (0.0, 1.0), (0.5, 0.0), (0.0, 0.5), (0.0, 0.0), (0.5, -0.5)]
)
def test_the_limits_of_alpha_beta_are_its_limits(
    student: Tensor, teacher: Tensor, alpha: float, beta: float
) -> None:
    at = evaluate("alpha_beta", leaf(student), leaf(teacher), alpha=alpha, beta=beta)
    near = {"alpha": alpha + 3e-6, "beta": beta + 2e-6}
    beside = evaluate("alpha_beta", leaf(student), leaf(teacher), **near)
    for actual, expected in zip(at, beside, strict=True):
        close(actual, expected, 1e-3)
        assert (actual - expected).abs().max() > 0


def test_a_worked_value_where_no_exponent_vanishes() -> None:
    p, q = torch.tensor([[0.8, 0.2], [0.5, 0.5]], dtype=torch.float64)
    value = losses.alpha_beta(q.log(), p.log(), alpha=0.5, beta=0.5)
    expected = 4 * (1 - (p * q).sqrt().sum())  # a Hellinger distance
    close(value, expected, 1e-12)
    squares = losses.alpha_beta(q.log(), p.log(), alpha=1.0, beta=1.0)
    close(squares, (p - q).square().sum() / 2, 1e-12)


def test_exchanging_the_exponents_exchanges_the_sides(student: Tensor, teacher: Tensor) -> None:
    one = losses.alpha_beta(student.detach(), teacher, alpha=0.3, beta=0.9)
    close(losses.alpha_beta(teacher, student.detach(), alpha=0.9, beta=0.3), one, 1e-12)


NEGATIVE = [(-0.3, 0.0), (0.0, -0.3), (-0.3, -0.3), (-0.3, 0.3), (-0.3, 0.8), (0.8, -0.3)]


@pytest.mark.parametrize(("alpha", "beta"), NEGATIVE)
@pytest.mark.parametrize("gap", [1e-6, 1.0, 1000.0])
def test_powers_that_are_huge_do_not_cancel(alpha: float, beta: float, gap: float) -> None:
    """A term of tiny p and q, against its value from the ratio of both and the power of one."""
    low = 200.0 if gap < 1000 else 50.0
    student = torch.tensor([[0.0, -low]], dtype=torch.float64)
    for other in (-low - gap, -low + gap):
        teacher = torch.tensor([[0.0, other]], dtype=torch.float64)
        if other > 0:
            continue
        value = losses.alpha_beta(student, teacher, alpha=alpha, beta=beta).item()
        s, d, log_q = alpha + beta, other + low, -low

        def growth(rate: float, d: float = d) -> float:
            return d if rate == 0 else math.expm1(rate * d) / rate

        if abs(d) < 1e-3:
            expected = math.exp(s * log_q) * d * d / 2
        else:
            expected = math.exp(s * log_q) * _quotient(alpha, beta, d, growth)
        assert value == pytest.approx(expected, rel=1e-5)
        assert value >= 0


def _quotient(alpha: float, beta: float, d: float, growth: Any) -> float:
    if beta != 0:
        return (growth(alpha + beta) - growth(alpha)) / beta
    return (math.exp(alpha * d) * (alpha * d - 1) + 1) / alpha**2
