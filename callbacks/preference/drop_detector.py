"""Measure how far a noisy value has dropped since the beginning of a run."""

from __future__ import annotations

from typing import Any


class EMADropDetector:
    """The difference between the mean of the first values and an exponential moving average (EMA).

    Args:
        first: number of values whose mean is the baseline.
        decay: decay of the moving average, in [0, 1).

    Raises:
        ValueError: A number outside its range.

    Example:
        >>> detector = EMADropDetector(first=2, decay=0.5)
        >>> [detector.add(value) for value in (1.0, 3.0, 0.0)]  # the average is 1, 2, 1
        [None, None, 1.0]
    """

    def __init__(self, *, first: int, decay: float) -> None:
        if first < 1:
            raise ValueError(f"baseline_steps must be at least 1, got {first}")
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        self.baseline_size, self.decay = first, decay
        self.first: list[float] = []
        self.average: float | None = None

    @property
    def baseline(self) -> float | None:
        """The mean of the first values; None until there are enough of them."""
        complete = len(self.first) >= self.baseline_size
        return sum(self.first) / len(self.first) if complete else None

    def add(self, value: float) -> float | None:
        """Add a value; return the drop, or None until the baseline is complete."""
        previous = value if self.average is None else self.average
        self.average = self.decay * previous + (1.0 - self.decay) * value
        if self.baseline is None:
            self.first.append(value)
            return None
        return self.baseline - self.average

    def reset_average(self) -> None:
        """Restart the moving average with the next value; the baseline is kept."""
        self.average = None

    def state_dict(self) -> dict[str, Any]:
        """Return the first values and the average."""
        return {"first": self.first, "average": self.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the first values and the average."""
        self.first, self.average = list(state["first"]), state["average"]
