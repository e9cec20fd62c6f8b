"""Whether a server's log-probabilities stand at their positions: some are shifted by one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kdlight.cache.records import Sequence

Score = Callable[[list[list[int]]], list[Sequence]]
"""Returns the most likely tokens at each position of some sequences."""

EQUAL = 0.05
"""Largest difference of log-probabilities that rounding, and other batches, explain."""


def check_positions(score: Score, tokens: list[int], server: str) -> None:
    """Raise a ValueError where distributions are not those of the token that comes next.

    The last scored position of a sequence depends on all tokens but the last one: it is the same
    for another last token, and another one for another token before it.

    Args:
        score: asks the server.
        tokens: five different token ids, such as any that the model knows.
        server: names the server, for the message.

    Raises:
        ValueError: the server shifts log-probabilities.

    Example:
        >>> def shifted(sequences):  # reads the token that it should predict
        ...     values = [np.array([-float(each[3])], dtype=np.float32) for each in sequences]
        ...     return [Sequence(4, np.array([2]), np.array([0]), v, v) for v in values]
        >>> check_positions(shifted, [1, 2, 3, 4, 5], "a server")
        Traceback (most recent call last):
        ValueError: a server returns log-probabilities that are shifted: ...
    """
    *begin, before, last, other = tokens
    base, other_last, other_before = score(
        [[*begin, before, last], [*begin, before, other], [*begin, other, last]]
    )
    at = len(begin)  # the position of the token before the last one
    if _difference(base, other_last, at) > EQUAL:
        raise ValueError(
            f"{server} returns log-probabilities that are shifted: those of a token change with the"
            " token itself, so they are not those before it; use another server or version"
        )
    if _difference(base, other_before, at) == 0:
        raise ValueError(
            f"{server} returns log-probabilities that are shifted: those of a token do not depend"
            " on the token before it; use another server or version"
        )


def _difference(one: Sequence, other: Sequence, position: int) -> float:
    """Return how much two distributions differ, by the tokens that both have."""
    first, second = _at(one, position), _at(other, position)
    common = sorted(set(first) & set(second))
    if not common:
        return np.inf
    # a token that only one of them has is less likely than all of the other one
    best = [max(values, key=values.__getitem__) for values in (first, second)]
    if not all(token in common for token in best):
        return np.inf
    return max(abs(first[token] - second[token]) for token in common)


def _at(sequence: Sequence, position: int) -> dict[int, float]:
    here = sequence.positions == position
    pairs = zip(sequence.ids[here].tolist(), sequence.log_probs[here].tolist(), strict=True)
    return dict(pairs)
