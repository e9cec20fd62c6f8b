"""The laws of schedules can fail, and hold for the schedules of kdlight."""

from __future__ import annotations

import pytest

from kdlight.schedules import Linear, Schedule
from kdlight.testing import SCHEDULE_LAWS, check_schedule


class Counting(Schedule):
    """Counts its own calls, so a resumed run differs."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, step: int, total: float = float("inf")) -> float:
        self.calls += 1
        return float(self.calls)


class Divides(Schedule):
    def __call__(self, step: int, total: float = float("inf")) -> float:
        return 1 / step


@pytest.mark.parametrize(
    ("schedule", "broken"),
    [
        (
            Counting(),
            {"the order of questions does not matter", "it is known again by its repr"},
        ),
        (Divides(), {"a finite number at every step"}),
    ],
)
def test_a_broken_schedule_is_found(schedule: Schedule, broken: set[str]) -> None:
    with pytest.raises(AssertionError, match=f"of {len(SCHEDULE_LAWS)} laws") as error:
        check_schedule(schedule)
    assert all(name in str(error.value) for name in broken)


def test_a_schedule_of_kdlight_satisfies_the_laws() -> None:
    assert check_schedule(Linear(4.0, 1.0)).broken == []


def test_exceptions_are_laws_that_are_broken() -> None:
    why = dict.fromkeys(SCHEDULE_LAWS, "divides by the step")
    assert len(check_schedule(Divides(), except_for=why).broken) == len(SCHEDULE_LAWS)
    with pytest.raises(AssertionError, match="satisfies laws that except_for lists as broken"):
        check_schedule(Linear(4.0, 1.0), except_for=why)
