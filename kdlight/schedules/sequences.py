"""Laws one after the other: stages, joints, warm-up."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from kdlight.schedules.schedule import Law, check_number, check_steps


@dataclass(frozen=True)
class Piecewise(Law):
    """Stages: a number each, changed at ``boundaries``.

    Args:
        values: the number of each stage.
        boundaries: the steps at which the next stage starts, rising; one fewer than values.

    Raises:
        ValueError: lengths that do not fit, or boundaries that do not rise from above 0.

    Example:
        >>> stages = Piecewise(values=[4.0, 2.0, 1.0], boundaries=[100, 200])
        >>> [stages(step) for step in (0, 99, 100, 200)]
        [4.0, 4.0, 2.0, 1.0]
    """

    values: Sequence[float]
    boundaries: Sequence[int]

    def __post_init__(self) -> None:
        """Refuse what makes no stages."""
        for i, value in enumerate(self.values):
            check_number(f"values[{i}]", value)
        _check_boundaries(self.boundaries, "values", len(self.values))

    def __call__(self, step: int, total: float = inf) -> float:
        """The number after ``step`` steps."""
        return float(self.values[bisect_right(self.boundaries, step)])


@dataclass(frozen=True)
class Join(Law):
    """Laws one after the other; each counts its steps, and its total, from where it starts.

    Args:
        laws: a law for each stretch.
        boundaries: the steps at which the next law starts, rising; one fewer than laws.

    Raises:
        ValueError: lengths that do not fit, or boundaries that do not rise from above 0.

    Example:
        >>> from kdlight.schedules import Constant, Linear
        >>> law = Join([Constant(4.0), Linear(4.0, 1.0)], boundaries=[10])  # hold, then fall
        >>> law(9, 20), law(15, 20), law(20, 20)
        (4.0, 2.5, 1.0)
    """

    laws: Sequence[Law]
    boundaries: Sequence[int]

    def __post_init__(self) -> None:
        """Refuse what cannot be joined."""
        _check_boundaries(self.boundaries, "laws", len(self.laws))

    def __call__(self, step: int, total: float = inf) -> float:
        """The number after ``step`` of ``total`` steps."""
        i = bisect_right(self.boundaries, step)
        starts, ends = [0, *self.boundaries], [*self.boundaries, total]
        return self.laws[i](step - starts[i], _stretch(starts[i], ends[i]))


@dataclass(frozen=True)
class Warmup(Law):
    """A straight line up to where another law starts, then that law.

    Args:
        then: the law after the warm-up; its first number is where the warm-up ends. It counts its
            steps, and its total, from there.
        steps: length of the warm-up, at least 1.
        start: the number before the first step.

    Raises:
        ValueError: a number outside its range.

    Example:
        >>> from kdlight.schedules import Constant
        >>> law = Warmup(Constant(8.0), steps=4)
        >>> [law(step) for step in (0, 1, 4, 9)]
        [0.0, 2.0, 8.0, 8.0]
    """

    then: Law
    steps: int
    start: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what makes no way."""
        check_number("start", self.start)
        check_steps(self.steps)

    def __call__(self, step: int, total: float = inf) -> float:
        """The number after ``step`` of ``total`` steps."""
        rest = _stretch(self.steps, total)
        if step >= self.steps:
            return self.then(step - self.steps, rest)
        x = max(step / self.steps, 0.0)
        return self.start * (1 - x) + self.then(0, rest) * x


def _stretch(start: float, end: float) -> float:
    # a run may end where a stretch begins, or before; a length of 0 would read as unknown
    return max(end - start, 1)


def _check_boundaries(boundaries: Sequence[int], parts: str, number: int) -> None:
    if number != len(boundaries) + 1:
        raise ValueError(
            f"{parts} must be one more than boundaries, got {number} and {len(boundaries)}"
        )
    if any(late <= early for early, late in zip([0, *boundaries], boundaries, strict=False)):
        raise ValueError(f"boundaries must rise, from above 0, got {list(boundaries)}")
