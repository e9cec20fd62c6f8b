"""The weights of domains by DDK's equations 1 and 2."""

from __future__ import annotations

from math import inf, isfinite, nan
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdlight.schedules import domain_weights

TEACHER = [10, 7.5, 11]
STUDENT = [[12, 8, 20], [11, 7.8, 15], [10.6, 7.7, 12]]
EXPECTED = [
    [0.2680, 0.2346, 0.4974],
    [0.2846, 0.2639, 0.4515],
    [0.3082, 0.2936, 0.3982],
]
PERPLEXITY = st.floats(1.0, 1e6)


def test_three_updates_have_the_worked_numbers() -> None:
    weights = None
    for student, expected in zip(STUDENT, EXPECTED, strict=True):
        weights = domain_weights(weights, student, TEACHER)
        assert weights == pytest.approx(expected, abs=1e-4)


def test_equal_ratios_come_closer_to_uniform_by_alpha() -> None:
    weights = [0.7, 0.2, 0.1]
    for expected in ([0.5167, 0.2667, 0.2167], [0.4250, 0.3000, 0.2750]):
        weights = domain_weights(weights, [6, 4, 2], [3, 2, 1])
        assert weights == pytest.approx(expected, abs=1e-4)


@given(
    domains=st.lists(st.tuples(PERPLEXITY, PERPLEXITY, st.floats(0, 1)), min_size=2, max_size=6),
    alpha=st.floats(0.01, 1.0),
)
def test_weights_are_a_distribution_with_a_floor(
    domains: list[tuple[float, float, float]], alpha: float
) -> None:
    student, teacher, shares = map(list, zip(*domains, strict=True))
    for previous in (None, [(s + 1) / (sum(shares) + len(shares)) for s in shares]):
        weights = domain_weights(previous, student, teacher, alpha=alpha)
        assert sum(weights) == pytest.approx(1)
        assert all(map(isfinite, weights))
        floor = 0.0 if previous is None else (1 - alpha) / len(student)
        assert min(weights) >= floor
        ratios = [s / t for s, t in zip(student, teacher, strict=True)]
        if previous is None:
            assert weights[ratios.index(max(ratios))] == max(weights)


def test_the_equations_without_logarithms() -> None:
    student, teacher = torch.tensor([3.0, 5.0, 9.0]), torch.tensor([2.0, 4.0, 5.0])
    gaps = (student / teacher).double().exp()
    of_tensors = domain_weights(None, student, teacher)  # type: ignore[arg-type]
    assert of_tensors == pytest.approx((gaps / gaps.sum()).tolist())
    previous = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    psi = previous * gaps
    expected = 0.3 * psi / psi.sum() + 0.7 / 3
    found = domain_weights(previous.tolist(), student.tolist(), teacher.tolist(), alpha=0.3)
    assert found == pytest.approx(expected.tolist())


@pytest.mark.parametrize("ratio", [1e3, 1e6])
def test_a_large_ratio_is_finite(ratio: float) -> None:
    first = domain_weights(None, [ratio, 1, 1], [1, 1, 1])
    assert first == pytest.approx([1, 0, 0])
    later = domain_weights(first, [1, ratio, 1], [1, 1, 1])
    assert all(map(isfinite, later))
    assert sum(later) == pytest.approx(1)


def test_a_domain_of_weight_0_comes_back_by_the_floor() -> None:
    assert domain_weights([1.0, 0.0], [1, 9], [1, 1]) == pytest.approx([0.75, 0.25])


def test_alpha_1_is_the_weights_without_smoothing() -> None:
    uniform = domain_weights([1 / 3] * 3, STUDENT[0], TEACHER, alpha=1.0)
    assert uniform == pytest.approx(domain_weights(None, STUDENT[0], TEACHER))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, [1.0], [1.0]), "two or more domains, got 1, 1 and None"),
        ((None, [1.0, 2.0], [1.0]), "got 2, 1 and None"),
        (([1.0], [1.0, 2.0], [1.0, 2.0]), "got 2, 2 and 1"),
        ((None, [nan, 2.0], [1.0, 1.0]), "student_perplexity must be above 0 and finite, got nan"),
        ((None, [1.0, 2.0], [1.0, inf]), "teacher_perplexity must be above 0 and finite, got inf"),
        ((None, [1.0, 2.0], [1.0, 0.0]), "teacher_perplexity must be above 0"),
        (([0.9, 0.9], [1.0, 2.0], [1.0, 1.0]), "previous must be weights in"),
        (([1.5, -0.5], [1.0, 2.0], [1.0, 1.0]), "previous must be weights in"),
    ],
)
def test_wrong_numbers_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        domain_weights(*arguments)


@pytest.mark.parametrize("alpha", [0.0, -0.5, 1.5, nan])
def test_an_alpha_outside_its_range_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"alpha must be in \(0, 1\], got"):
        domain_weights(None, [1.0, 2.0], [1.0, 1.0], alpha=alpha)


def test_an_alpha_that_is_no_number_is_refused() -> None:
    with pytest.raises(TypeError, match="alpha must be a number"):
        domain_weights(None, [1.0, 2.0], [1.0, 1.0], alpha="half")  # type: ignore[arg-type]
