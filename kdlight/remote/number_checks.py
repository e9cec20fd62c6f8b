"""Whether decoded scores can be log-probabilities: a checksum only shows that they were sent."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from kdlight.cache.records import Sequence
from kdlight.remote.answers import ROUNDING


def check_numbers(scores: Iterable[Sequence], *, k: int | None = None, exact: bool = True) -> None:
    """Raise a ValueError for numbers that are no log-probabilities.

    Args:
        scores: the scored sequences.
        k: number of tokens that each position should have, if the vocabulary has as many; None if
            it differs. A position may have fewer where all others are impossible.
        exact: whether the probabilities of a position, with that of all other tokens, sum to 1 up
            to rounding. Log-probabilities of few bits do not.

    Example:
        >>> value, tail = np.array([-0.5], dtype=np.float32), np.array([-9.0], dtype=np.float32)
        >>> check_numbers([Sequence(1, np.array([0]), np.array([3]), value, tail)])
        Traceback (most recent call last):
        ValueError: the probabilities of row 0, position 0 sum to 0.606654
    """
    for row, (_, positions, _, log_probs, log_tails) in enumerate(scores):
        if not len(positions):
            continue
        starts = np.flatnonzero(np.diff(positions, prepend=-1))
        for name, values in (("a log-probability", log_probs), ("a log tail", log_tails)):
            wrong = ~(values <= ROUNDING)  # NaN as well
            if wrong.any():
                raise ValueError(f"row {row} has {name} of {values[wrong][0]:g}")
        tails = np.exp(log_tails.astype(np.float64))
        mass = np.add.reduceat(np.exp(log_probs.astype(np.float64)), starts) + tails
        if exact and (off := np.abs(mass - 1) > ROUNDING).any():
            at = int(np.flatnonzero(off)[0])
            raise ValueError(
                f"the probabilities of row {row}, position {positions[starts[at]]} sum to"
                f" {mass[at]:g}"
            )
        counts = np.diff(starts, append=len(positions))
        if k is not None and (few := (counts < k) & (tails > ROUNDING)).any():
            at = int(np.flatnonzero(few)[0])
            raise ValueError(
                f"row {row}, position {positions[starts[at]]} has {counts[at]} tokens instead of"
                f" {k}"
            )
