"""Transitions: schedules from one number to another."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from math import copysign, cos, inf, pi

from kdlight.checks import check_finite
from kdlight.schedules.schedule import Schedule, check_steps


@dataclass(frozen=True)
class Transition(Schedule):
    """From ``start`` to ``end`` in ``steps``: the base class of the schedules below.

    ``end`` is reached after the last step and kept from then on. The last of ``n`` steps itself
    still uses the number of step ``n - 1``.

    Args:
        start: The number before the first step.
        end: The number after the last step.
        steps: Length of the transition, at least 1; None for the whole run.

    Raises:
        ValueError: If a number is outside its range.
    """

    start: float
    end: float
    steps: int | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_finite("start", self.start)
        check_finite("end", self.end)
        check_steps(self.steps)

    def __call__(self, step: int, total: float = inf) -> float:
        """Return the number after ``step`` of ``total`` steps."""
        steps = total if self.steps is None else self.steps
        if not 0 < steps < inf:
            raise ValueError(
                f"{type(self).__name__} has steps=None, which means the whole run, but the number"
                f" of steps of this run is unknown ({total}); set steps of the schedule, or"
                " set trainer.max_steps (trainer.max_epochs for a schedule over epochs)"
            )
        return self.at(min(max(step / steps, 0.0), 1.0))

    @abstractmethod
    def at(self, x: float) -> float:
        """Return the number at the fraction x, in [0, 1], of the transition; exact at both ends."""


class Linear(Transition):
    r"""A straight line, :math:`start + (end - start)\, x`.

    Example:
        >>> Linear(4.0, 1.0)(5, 10), Linear(4.0, 1.0, steps=5)(7, 10)
        (2.5, 1.0)
    """

    def at(self, x: float) -> float:
        """Return the number at the fraction x of the transition."""
        return self.start * (1 - x) + self.end * x


class Cosine(Transition):
    r"""Half a cosine, flat at both ends: :math:`start + (end - start)(1 - \cos \pi x) / 2`.

    Loshchilov, Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017, eq. (5).

    Example:
        >>> [round(Cosine(0.0, 1.0)(step, 4), 2) for step in range(5)]
        [0.0, 0.15, 0.5, 0.85, 1.0]
    """

    def at(self, x: float) -> float:
        """Return the number at the fraction x of the transition."""
        x = (1 - cos(pi * x)) / 2
        return self.start * (1 - x) + self.end * x


class Exponential(Transition):
    r"""A constant factor per step, :math:`start\,(end / start)^x`; neither end may be 0.

    Example:
        >>> round(Exponential(8.0, 2.0)(5, 10), 4)
        4.0
    """

    def __post_init__(self) -> None:
        """Check also that both ends have the same sign."""
        super().__post_init__()
        if not self.start * self.end > 0:
            raise ValueError(
                "start and end of an Exponential must be on the same side of 0, got"
                f" {self.start} and {self.end}"
            )

    def at(self, x: float) -> float:
        """Return the number at the fraction x of the transition."""
        return copysign(abs(self.start) ** (1 - x) * abs(self.end) ** x, self.start)
