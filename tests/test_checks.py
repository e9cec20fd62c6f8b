"""Checks of hyper-parameters: where each range ends, and what an error names."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from kdlight.checks import (
    check_at_least,
    check_choice,
    check_finite,
    check_positive,
    check_range,
)


def test_the_ends_of_a_range_are_allowed_unless_the_upper_one_is_open() -> None:
    check_range("beta", 0.0, 0.0, 1.0)
    check_range("beta", 1.0, 0.0, 1.0)
    check_range("beta", 0.0, 0.0, 1.0, open_high=True)
    with pytest.raises(ValueError, match=r"^beta must be in \[0.0, 1.0\), got 1.0$"):
        check_range("beta", 1.0, 0.0, 1.0, open_high=True)


@pytest.mark.parametrize("value", [-0.1, 1.1, inf, -inf, nan])
def test_a_number_outside_a_range_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=rf"^beta must be in \[0.0, 1.0\], got {value}$"):
        check_range("beta", value, 0.0, 1.0)


@pytest.mark.parametrize("value", [0.0, -1.0, inf, nan])
def test_a_number_that_is_not_positive_and_finite_is_refused(value: float) -> None:
    check_positive("temperature", 1e-300)
    with pytest.raises(ValueError, match=f"^temperature must be above 0 and finite, got {value}$"):
        check_positive("temperature", value)


@pytest.mark.parametrize("value", [1.9, -inf, nan])
def test_a_number_below_a_minimum_is_refused(value: float) -> None:
    check_at_least("bins", 2, 2)
    check_at_least("bins", inf, 2)
    with pytest.raises(ValueError, match=f"^bins must be at least 2, got {value}$"):
        check_at_least("bins", value, 2)


@pytest.mark.parametrize("value", [inf, -inf, nan])
def test_a_number_that_is_not_finite_is_refused(value: float) -> None:
    check_finite("start", -1e300)
    with pytest.raises(ValueError, match=f"^start must be a finite number, got {value}$"):
        check_finite("start", value)


@pytest.mark.parametrize(("value", "choices"), [("max", ("mean", "sum")), (3, (1, 2))])
def test_a_value_that_is_not_among_the_choices_is_refused(value: Any, choices: Any) -> None:
    check_choice("option", choices[-1], choices)
    one, other = map(repr, choices)
    with pytest.raises(ValueError, match=f"^option must be one of {one}, {other}, got {value!r}$"):
        check_choice("option", value, choices)
