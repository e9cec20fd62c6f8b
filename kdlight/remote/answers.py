"""The tokens of an answer, checked: a wrong number must never reach a loss."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from kdlight.cache.records import Sequence

ROUNDING = 1e-3
"""By how much a log-probability, or the sum of probabilities, may be too large by rounding."""


def to_sequence(
    length: int,
    positions: Iterable[tuple[int, list[int], list[float]]],
    *,
    vocab_size: int | None,
) -> Sequence:
    """Return the answer for one sequence, sorted by id within a position.

    Args:
        length: number of positions of the sequence.
        positions: position, ids and log-probabilities of each scored one, in order.
        vocab_size: number of tokens; None if it is not known.

    Raises:
        ValueError: a log-probability is NaN, +inf or above 0; an id is out of range or there twice;
            the probabilities sum to more than 1; a position has no token.

    Example:
        >>> answer = to_sequence(3, [(0, [4, 1], [-1.0, -0.7])], vocab_size=5)
        >>> answer.ids, answer.positions
        (array([1, 4]), array([0, 0]))
        >>> to_sequence(3, [(0, [4], [0.5])], vocab_size=5)
        Traceback (most recent call last):
        ValueError: position 0 has a log-probability of 0.5, which is above 0
    """
    numbers, tokens, values, tails = [], [], [], []
    for position, ids, log_probs in positions:
        some, found = _position(position, ids, log_probs, vocab_size)
        numbers.append(np.full(len(some), position, dtype=np.int64))
        tokens.append(some)
        values.append(found)
        tails.append(_log_rest(found))
    empty = np.zeros(0, dtype=np.int64)
    return Sequence(
        length,
        np.concatenate([empty, *numbers]),
        np.concatenate([empty, *tokens]),
        np.concatenate([empty, *values]).astype(np.float32),
        np.array(tails, dtype=np.float32),
    )


def _position(
    position: int, ids: list[int], log_probs: list[float], vocab_size: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids and log-probabilities of a position, by increasing id."""
    if not ids or len(ids) != len(log_probs):
        raise ValueError(f"position {position} has {len(ids)} ids and {len(log_probs)} values")
    try:
        tokens, values = np.array(ids, dtype=np.int64), np.array(log_probs, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"position {position} has what is no number: {error}") from None
    check_values(position, values)
    order = np.argsort(tokens, kind="stable")
    tokens, values = tokens[order], np.minimum(values[order], 0.0)
    if tokens[0] < 0 or (vocab_size is not None and tokens[-1] >= vocab_size):
        wrong = tokens[0] if tokens[0] < 0 else tokens[-1]
        raise ValueError(
            f"position {position} has the token id {wrong}, but the vocabulary has"
            f" {vocab_size} tokens"
        )
    if (np.diff(tokens) == 0).any():
        raise ValueError(f"position {position} has a token id twice")
    if (mass := np.exp(values).sum()) > 1 + ROUNDING:
        raise ValueError(f"position {position} has probabilities that sum to {mass:g}")
    kept = values > -np.inf  # an impossible token has no entry, like one that is not returned
    if not kept.any():
        raise ValueError(f"position {position} has no token with a probability above 0")
    return tokens[kept], values[kept]


def check_values(position: int, values: Any) -> None:
    """Raise a ValueError for log-probabilities that are no numbers, NaN, +inf or above 0.

    Example:
        >>> check_values(3, [-0.5, float("nan")])
        Traceback (most recent call last):
        ValueError: position 3 has a log-probability that is NaN or infinite
    """
    try:
        values = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"position {position} has what is no number: {error}") from None
    if np.isnan(values).any() or (values == np.inf).any():
        raise ValueError(f"position {position} has a log-probability that is NaN or infinite")
    if (highest := values.max()) > ROUNDING:
        raise ValueError(
            f"position {position} has a log-probability of {highest:g}, which is above 0"
        )


def _log_rest(log_probs: np.ndarray) -> float:
    """Return the log of the probability of all other tokens, at least the rounding error."""
    rest = 1.0 - np.exp(log_probs.astype(np.float64)).sum()
    return float(np.log(max(rest, np.finfo(np.float32).eps)))
