"""Sequences of schedules: stages, joined schedules, warm-up."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from kdlight.checks import check_finite
from kdlight.schedules.schedule import Schedule, check_steps


@dataclass(frozen=True)
class Piecewise(Schedule):
    """A constant number per stage, with stages separated by ``boundaries``.

    Args:
        values: The number of each stage.
        boundaries: The steps at which the next stage starts, increasing; one fewer than values.

    Raises:
        ValueError: If a value is not finite, the lengths do not fit, or the boundaries do not
            increase from above 0.

    Example:
        >>> stages = Piecewise(values=[4.0, 2.0, 1.0], boundaries=[100, 200])
        >>> [stages(step) for step in (0, 99, 100, 200)]
        [4.0, 4.0, 2.0, 1.0]
    """

    values: Sequence[float]
    boundaries: Sequence[int]

    def __post_init__(self) -> None:
        """Check values and boundaries."""
        for i, value in enumerate(self.values):
            check_finite(f"values[{i}]", value)
        _check_boundaries(self.boundaries, "values", len(self.values))

    def __call__(self, step: int, total: float = inf) -> float:
        """Return the number after ``step`` steps."""
        return float(self.values[bisect_right(self.boundaries, step)])


@dataclass(frozen=True)
class Join(Schedule):
    """Schedules one after the other. Each counts its steps, and its total, from its own start.

    Args:
        schedules: The schedule of each part.
        boundaries: The steps at which the next schedule starts, increasing; one fewer than
            schedules.

    Raises:
        ValueError: If the lengths do not fit, or the boundaries do not increase from above 0.

    Example:
        >>> from kdlight.schedules import Constant, Linear
        >>> schedule = Join([Constant(4.0), Linear(4.0, 1.0)], boundaries=[10])
        >>> schedule(9, 20), schedule(15, 20), schedule(20, 20)
        (4.0, 2.5, 1.0)
    """

    schedules: Sequence[Schedule]
    boundaries: Sequence[int]

    def __post_init__(self) -> None:
        """Check the boundaries."""
        _check_boundaries(self.boundaries, "schedules", len(self.schedules))

    def __call__(self, step: int, total: float = inf) -> float:
        """Return the number after ``step`` of ``total`` steps."""
        i = bisect_right(self.boundaries, step)
        starts, ends = [0, *self.boundaries], [*self.boundaries, total]
        return self.schedules[i](step - starts[i], _length(starts[i], ends[i]))


@dataclass(frozen=True)
class Warmup(Schedule):
    """A straight line to the first number of another schedule, then that schedule.

    Args:
        then: The schedule after the warm-up, which ends at its first number. It counts its steps,
            and its total, from there.
        steps: Length of the warm-up, at least 1.
        start: The number before the first step.

    Raises:
        ValueError: If a number is outside its range.

    Example:
        >>> from kdlight.schedules import Constant
        >>> schedule = Warmup(Constant(8.0), steps=4)
        >>> [schedule(step) for step in (0, 1, 4, 9)]
        [0.0, 2.0, 8.0, 8.0]
    """

    then: Schedule
    steps: int
    start: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_finite("start", self.start)
        check_steps(self.steps)

    def __call__(self, step: int, total: float = inf) -> float:
        """Return the number after ``step`` of ``total`` steps."""
        rest = _length(self.steps, total)
        if step >= self.steps:
            return self.then(step - self.steps, rest)
        x = max(step / self.steps, 0.0)
        return self.start * (1 - x) + self.then(0, rest) * x


def _length(start: float, end: float) -> float:
    # a run may end at the start of a part, or before it; a length of 0 would count as unknown
    return max(end - start, 1)


def _check_boundaries(boundaries: Sequence[int], parts: str, number: int) -> None:
    if number != len(boundaries) + 1:
        raise ValueError(
            f"{parts} must be one more than boundaries, got {number} and {len(boundaries)}"
        )
    if any(late <= early for early, late in zip([0, *boundaries], boundaries, strict=False)):
        raise ValueError(f"boundaries must increase, from above 0, got {list(boundaries)}")
