"""The laws of schedules: pure functions, which a resumed run can restore."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from math import isfinite
from types import MappingProxyType

from kdlight.schedules import Schedule
from kdlight.testing.laws import Deviations
from kdlight.testing.report import Deviation, Report, demand, find, holds


def a_finite_number_at_every_step(schedule: Schedule, steps: int) -> Deviations:
    """Every step gives a finite number, also the end of the run."""
    for step in range(steps + 1):
        value = schedule(step, steps)
        yield holds(
            isinstance(value, (int, float)) and isfinite(value), f"{value!r} after step {step}"
        )


def the_order_of_questions_does_not_matter(schedule: Schedule, steps: int) -> Deviations:
    """A schedule has no state: otherwise a resumed run would differ."""
    ahead = [schedule(step, steps) for step in range(steps + 1)]
    back = [schedule(step, steps) for step in reversed(range(steps + 1))]
    for one, other in zip(ahead, reversed(back), strict=True):
        yield Deviation(abs(one - other), 0.0, "value")


def copies_and_pickles_are_the_same_schedule(schedule: Schedule, steps: int) -> Deviations:
    """A copy for another process gives the same numbers."""
    for again in (copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule))):
        for step in range(steps + 1):
            yield Deviation(abs(again(step, steps) - schedule(step, steps)), 0.0, "value")


def it_is_known_again_by_its_repr(schedule: Schedule, steps: int) -> Deviations:
    """Equal schedules have equal reprs, as those of dataclasses are.

    `kdlight.callbacks.HyperparameterScheduler` saves the repr in checkpoints.
    """
    name = repr(schedule)
    yield holds(repr(copy.deepcopy(schedule)) == name, name.partition(" at 0x")[0])


SCHEDULE_LAWS = {
    law.__name__: law
    for law in (
        a_finite_number_at_every_step,
        the_order_of_questions_does_not_matter,
        copies_and_pickles_are_the_same_schedule,
        it_is_known_again_by_its_repr,
    )
}


def check_schedule(
    schedule: Schedule, *, steps: int = 100, except_for: Mapping[str, str] = MappingProxyType({})
) -> Report:
    """Check a schedule against the laws of schedules.

    Args:
        schedule: one of `kdlight.schedules`, or your own `kdlight.schedules.Schedule`.
        steps: length of the run.
        except_for: laws that cannot hold, each with the reason.

    Returns:
        The result of every law.

    Raises:
        AssertionError: a law is broken, or a law in ``except_for`` holds.
        ValueError: a name in ``except_for`` is not a law.

    Example:
        >>> from kdlight.schedules import Linear
        >>> check_schedule(Linear(4.0, 1.0)).broken
        []
    """
    return demand(find(SCHEDULE_LAWS, schedule, steps), repr(schedule), except_for)
