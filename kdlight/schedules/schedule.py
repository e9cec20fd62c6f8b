"""The base class of schedules: a number as a function of the step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import inf

from kdlight.checks import check_at_least, check_finite


class Schedule(ABC):
    """A number as a function of the finished steps: ``schedule(step, total) -> float``.

    Steps are whatever the caller counts, optimizer steps or epochs.

    Example:
        >>> class EveryOther(Schedule):
        ...     def __call__(self, step, total=inf):
        ...         return float(step % 2)
        >>> [EveryOther()(step) for step in range(3)]
        [0.0, 1.0, 0.0]
    """

    @abstractmethod
    def __call__(self, step: int, total: float = inf) -> float:
        """Return the number after ``step`` of ``total`` steps.

        Raises:
            ValueError: If total is unknown (infinite, or not above 0) and the schedule needs it.
        """


@dataclass(frozen=True)
class Constant(Schedule):
    """The same number at every step, for instance as a part of a `kdlight.schedules.Join`.

    Args:
        value: The number.

    Raises:
        ValueError: If value is not finite.

    Example:
        >>> Constant(0.5)(3)
        0.5
    """

    value: float

    def __post_init__(self) -> None:
        """Check the number."""
        check_finite("value", self.value)

    def __call__(self, step: int, total: float = inf) -> float:
        """Return the number."""
        return float(self.value)


def check_steps(steps: int | None) -> None:
    """Raise an error for a number of steps below 1. None is allowed.

    Raises:
        ValueError: If steps is below 1.
    """
    if steps is not None:
        check_at_least("steps", steps, 1)
