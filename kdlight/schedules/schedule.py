"""Laws of one number over a run: what it is after so many steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import copysign, cos, inf, isfinite, pi


class Law(ABC):
    """A number as a function of the steps done: ``law(step, total) -> float``.

    Steps are whatever the caller counts, optimizer steps or epochs.

    Example:
        >>> class EveryOther(Law):
        ...     def __call__(self, step, total=inf):
        ...         return float(step % 2)
        >>> [EveryOther()(step) for step in range(3)]
        [0.0, 1.0, 0.0]
    """

    @abstractmethod
    def __call__(self, step: int, total: float = inf) -> float:
        """The number after ``step`` of ``total`` steps.

        Raises:
            ValueError: total is unknown (infinite, or not above 0), and the law needs it.
        """


@dataclass(frozen=True)
class Constant(Law):
    """The same number throughout: a stretch of a `Join`.

    Args:
        value: the number.

    Raises:
        ValueError: value is not finite.

    Example:
        >>> Constant(0.5)(3)
        0.5
    """

    value: float

    def __post_init__(self) -> None:
        """Refuse what is no number."""
        check_number("value", self.value)

    def __call__(self, step: int, total: float = inf) -> float:
        """The number."""
        return float(self.value)


@dataclass(frozen=True)
class Transition(Law):
    """From ``start`` to ``end`` in ``steps``: the common ground of the laws below.

    ``end`` is reached after the last step and kept from there on; the last of ``n`` steps itself is
    still made one step short of it.

    Args:
        start: the number before the first step.
        end: the number after the last one.
        steps: length of the way, at least 1; None for the whole run.

    Raises:
        ValueError: a number outside its range.
    """

    start: float
    end: float
    steps: int | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no way."""
        check_number("start", self.start)
        check_number("end", self.end)
        check_steps(self.steps)

    def __call__(self, step: int, total: float = inf) -> float:
        """The number after ``step`` of ``total`` steps."""
        steps = total if self.steps is None else self.steps
        if not 0 < steps < inf:
            raise ValueError(
                f"{type(self).__name__} has steps=None, which means the whole run, but the number"
                f" of steps of this run is unknown ({total}); give the law its steps, or set"
                " trainer.max_steps (for a law over epochs, trainer.max_epochs)"
            )
        return self.at(min(max(step / steps, 0.0), 1.0))

    @abstractmethod
    def at(self, x: float) -> float:
        """The number when the share x, in [0, 1], of the way is done; exact at both ends."""


class Linear(Transition):
    r"""A straight line, :math:`start + (end - start)\, x`.

    Example:
        >>> Linear(4.0, 1.0)(5, 10), Linear(4.0, 1.0, steps=5)(7, 10)
        (2.5, 1.0)
    """

    def at(self, x: float) -> float:
        """The number when the share x of the way is done."""
        return self.start * (1 - x) + self.end * x


class Cosine(Transition):
    r"""Half a cosine, flat at both ends: :math:`start + (end - start)(1 - \cos \pi x) / 2`.

    Loshchilov, Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017, eq. (5).

    Example:
        >>> [round(Cosine(0.0, 1.0)(step, 4), 2) for step in range(5)]
        [0.0, 0.15, 0.5, 0.85, 1.0]
    """

    def at(self, x: float) -> float:
        """The number when the share x of the way is done."""
        x = (1 - cos(pi * x)) / 2
        return self.start * (1 - x) + self.end * x


class Exponential(Transition):
    r"""Equal factors in equal times, :math:`start\,(end / start)^x`; neither end may be 0.

    Example:
        >>> round(Exponential(8.0, 2.0)(5, 10), 4)
        4.0
    """

    def __post_init__(self) -> None:
        """Also refuse two sides of 0, which no factor connects."""
        super().__post_init__()
        if not self.start * self.end > 0:
            raise ValueError(
                "start and end of an Exponential must be on the same side of 0, got"
                f" {self.start} and {self.end}"
            )

    def at(self, x: float) -> float:
        """The number when the share x of the way is done."""
        return copysign(abs(self.start) ** (1 - x) * abs(self.end) ** x, self.start)


def check_number(name: str, number: float) -> None:
    """Raise a ValueError for what is not finite."""
    if not isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {number}")


def check_steps(steps: int | None) -> None:
    """Raise a ValueError for a way of no length."""
    if steps is not None and steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
