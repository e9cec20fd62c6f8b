"""Transitions: schedules from one number to another."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdlight.schedules import (
    Cosine,
    Exponential,
    Linear,
    Schedule,
)

TRANSITIONS = (Linear, Cosine, Exponential)


@pytest.mark.parametrize("kind", TRANSITIONS)
@given(start=st.floats(0.1, 50), end=st.floats(0.1, 50), total=st.integers(1, 40))
def test_a_transition_goes_from_start_to_end(
    kind: type[Linear], start: float, end: float, total: int
) -> None:
    schedule = kind(start, end)
    path = [schedule(step, total) for step in range(total + 1)]
    assert (path[0], path[-1]) == pytest.approx((start, end), rel=1e-15)
    assert schedule(total + 7, total) == path[-1]
    rising = sorted(path, reverse=end < start)
    assert path == pytest.approx(rising, rel=1e-12)
    assert kind(start, end, steps=total)(3, inf) == schedule(3, total)


@pytest.mark.parametrize(
    ("schedule", "halfway", "quarter"),
    [
        (Linear(2.0, 8.0), 5.0, 3.5),
        (Cosine(2.0, 8.0), 5.0, 2.0 + 6 * (1 - 0.5**0.5) / 2),
        (Exponential(2.0, 8.0), 4.0, 2.0**1.5),
        (Exponential(-2.0, -8.0), -4.0, -(2.0**1.5)),
    ],
)
def test_a_transition_has_its_shape(schedule: Schedule, halfway: float, quarter: float) -> None:
    assert schedule(50, 100) == pytest.approx(halfway)
    assert schedule(25, 100) == pytest.approx(quarter)


def test_the_strength_of_ctkd_grows_as_its_authors_have_it() -> None:
    # their factor on the gradient, from epoch 1 on: (cos(pi e / L) + 1) / 2 * (max - min) + min
    # with max = 0 and min = -1; in kdlight the sign is the objective's
    from math import cos, pi

    for epoch in range(12):
        theirs = (cos(pi * min(epoch, 10) / 10) + 1) / 2 - 1
        assert -Cosine(0.0, 1.0, steps=10)(epoch) == pytest.approx(theirs)


def test_a_transition_over_an_unknown_number_of_steps_says_what_to_do() -> None:
    for unknown in (inf, -1, 0):
        with pytest.raises(ValueError, match=r"Linear has steps=None.*set trainer.max_steps"):
            Linear(0.0, 1.0)(3, unknown)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Linear(inf, 1.0), "start must be a finite number, got inf"),
        (lambda: Cosine(0.0, nan), "end must be a finite number, got nan"),
        (lambda: Linear(0.0, 1.0, steps=0), "steps must be at least 1, got 0"),
        (lambda: Exponential(0.0, 1.0), "same side of 0, got 0.0 and 1.0"),
        (lambda: Exponential(-1.0, 1.0), "same side of 0, got -1.0 and 1.0"),
    ],
)
def test_numbers_that_make_no_schedule_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
