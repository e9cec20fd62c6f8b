"""What holds for every schedule: a pure law, which a resumed run finds again."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from math import isfinite
from types import MappingProxyType

from kdlight.schedules import Law
from kdlight.testing.laws import Deviations
from kdlight.testing.report import Deviation, Report, demand, find, holds


def a_finite_number_at_every_step(law: Law, steps: int) -> Deviations:
    """The end of the run among them."""
    for step in range(steps + 1):
        value = law(step, steps)
        yield holds(
            isinstance(value, (int, float)) and isfinite(value), f"{value!r} after step {step}"
        )


def the_order_of_questions_does_not_matter(law: Law, steps: int) -> Deviations:
    """A schedule keeps nothing in mind, or a resumed run would go another way."""
    ahead = [law(step, steps) for step in range(steps + 1)]
    back = [law(step, steps) for step in reversed(range(steps + 1))]
    for one, other in zip(ahead, reversed(back), strict=True):
        yield Deviation(abs(one - other), 0.0, "value")


def copies_and_pickles_are_the_same_schedule(law: Law, steps: int) -> Deviations:
    """As for other processes."""
    for again in (copy.deepcopy(law), pickle.loads(pickle.dumps(law))):
        for step in range(steps + 1):
            yield Deviation(abs(again(step, steps) - law(step, steps)), 0.0, "value")


def it_is_known_again_by_its_repr(law: Law, steps: int) -> Deviations:
    """`kdlight.callbacks.HyperparameterScheduler` saves it in checkpoints: a dataclass has a good one."""
    yield holds(repr(copy.deepcopy(law)) == repr(law), repr(law).partition(" at 0x")[0])


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
    schedule: Law, *, steps: int = 100, except_for: Mapping[str, str] = MappingProxyType({})
) -> Report:
    """The laws of schedules, asked of one's own.

    Args:
        schedule: one of `kdlight.schedules`, or a `kdlight.schedules.Law` of one's own.
        steps: length of the run.
        except_for: laws that cannot hold, each with the reason.

    Returns:
        What was found of every law.

    Raises:
        AssertionError: a law is broken, or an exception holds.
        ValueError: an exception is no law.

    Example:
        >>> from kdlight.schedules import Linear
        >>> check_schedule(Linear(4.0, 1.0)).broken
        []
    """
    return demand(find(SCHEDULE_LAWS, schedule, steps), repr(schedule), except_for)
