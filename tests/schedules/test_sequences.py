"""Stages, joined schedules and warm-up."""

from __future__ import annotations

from math import nan
from typing import Any

import pytest

from kdlight.schedules import (
    Constant,
    Cosine,
    Join,
    Linear,
    Piecewise,
    Warmup,
)


def test_stages_change_at_their_boundaries() -> None:
    schedule = Piecewise([4.0, 2.0, 1.0], [10, 15])
    assert [schedule(step) for step in (0, 9, 10, 14, 15, 99)] == [4.0, 4.0, 2.0, 2.0, 1.0, 1.0]


def test_a_join_runs_each_schedule_over_its_own_part() -> None:
    schedule = Join([Constant(5.0), Linear(4.0, 0.0), Cosine(1.0, 3.0)], [10, 20])
    assert [schedule(step, 40) for step in (0, 9, 10, 15, 20, 30, 40)] == pytest.approx(
        [5.0, 5.0, 4.0, 2.0, 1.0, 2.0, 3.0]
    )
    assert Join([Constant(5.0), Linear(4.0, 0.0)], [10])(10, 10) == 4.0  # the run ends there


def test_a_warmup_leads_to_where_the_schedule_starts() -> None:
    schedule = Warmup(Linear(8.0, 0.0), steps=4, start=2.0)
    assert [schedule(step, 12) for step in (0, 2, 4, 8, 12)] == [2.0, 5.0, 8.0, 4.0, 0.0]
    assert Warmup(Linear(8.0, 0.0), steps=4)(2, 3) == 4.0  # the run is shorter than the warm-up


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Piecewise([1.0], [3]), "values must be one more than boundaries, got 1 and 1"),
        (lambda: Piecewise([1.0, nan], [3]), r"values\[1\] must be a finite number, got nan"),
        (lambda: Piecewise([1.0, 2.0], [0]), r"boundaries must increase, from above 0, got \[0\]"),
        (lambda: Join([Constant(1.0)] * 3, [4, 4]), r"boundaries must increase.*got \[4, 4\]"),
        (lambda: Join([], [4]), "schedules must be one more than boundaries, got 0 and 1"),
        (lambda: Warmup(Constant(1.0), steps=0), "steps must be at least 1, got 0"),
        (lambda: Warmup(Constant(1.0), steps=2, start=nan), "start must be a finite number"),
    ],
)
def test_numbers_that_make_no_schedule_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
