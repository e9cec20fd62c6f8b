"""How far a noisy number has fallen since a run began."""

from __future__ import annotations

from typing import Any


class EMADropDetector:
    """The fall of a moving average below the mean of the first values.

    Args:
        first: how many values make the baseline.
        decay: memory of the moving average, in [0, 1).

    Raises:
        ValueError: a number outside its range.

    Example:
        >>> drift = EMADropDetector(first=2, decay=0.5)
        >>> [drift.add(value) for value in (1.0, 3.0, 0.0)]  # the average is 1, 2, 1
        [None, None, 1.0]
    """

    def __init__(self, *, first: int, decay: float) -> None:
        if first < 1:
            raise ValueError(f"baseline_steps must be at least 1, got {first}")
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        self.wanted, self.decay = first, decay
        self.first: list[float] = []
        self.average: float | None = None

    @property
    def baseline(self) -> float | None:
        """The mean of the first values; None while they come in."""
        done = len(self.first) >= self.wanted
        return sum(self.first) / len(self.first) if done else None

    def add(self, value: float) -> float | None:
        """Take in a value; the fall, or None while the baseline is being measured."""
        before = value if self.average is None else self.average
        self.average = self.decay * before + (1.0 - self.decay) * value
        if self.baseline is None:
            self.first.append(value)
            return None
        return self.baseline - self.average

    def forget(self) -> None:
        """Begin the moving average anew; the baseline stays."""
        self.average = None

    def state_dict(self) -> dict[str, Any]:
        """What was seen."""
        return {"first": self.first, "average": self.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.first, self.average = list(state["first"]), state["average"]
