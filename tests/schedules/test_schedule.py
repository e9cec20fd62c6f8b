"""What holds for every schedule, and the constant one."""

from __future__ import annotations

import pickle
from math import inf, nan
from typing import Any

import pytest

from kdlight.schedules import (
    Constant,
    Exponential,
    Join,
    Linear,
    Piecewise,
    Schedule,
    Warmup,
)
from kdlight.schedules.schedule import check_steps


@pytest.mark.parametrize(
    "schedule",
    [
        Constant(1.0),
        Linear(1.0, 2.0),
        Piecewise([1.0, 2.0], [3]),
        Warmup(Join([Exponential(1.0, 2.0), Constant(2.0)], [5]), steps=2),
    ],
)
def test_a_schedule_is_a_value(schedule: Schedule) -> None:
    again = pickle.loads(pickle.dumps(schedule))
    assert again == schedule
    assert repr(again) == repr(schedule)
    with pytest.raises(AttributeError):
        schedule.start = 3.0  # type: ignore[attr-defined]


@pytest.mark.parametrize("total", [inf, -1, 0, 7])
def test_a_constant_needs_no_number_of_steps(total: float) -> None:
    value = Constant(2)(3, total)
    assert (value, type(value)) == (2.0, float)


@pytest.mark.parametrize("steps", [0, -1])
def test_a_number_of_steps_below_1_is_refused_and_none_is_not(steps: int) -> None:
    check_steps(None)
    check_steps(1)
    with pytest.raises(ValueError, match=f"steps must be at least 1, got {steps}"):
        check_steps(steps)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Constant(nan), "value must be a finite number, got nan"),
    ],
)
def test_numbers_that_make_no_schedule_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
