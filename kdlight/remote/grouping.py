"""Sequences divided among requests."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil


def group(lengths: Sequence[int], *, max_tokens: int, requests: int) -> list[list[int]]:
    """Return the indices of the sequences of each request.

    Args:
        lengths: number of tokens of each sequence.
        max_tokens: most tokens of a request; a longer sequence has a request of its own.
        requests: number of requests that are answered at the same time: with fewer tokens than
            ``max_tokens`` for each, sequences are divided evenly among them.

    Example:
        >>> group([4, 4, 4, 4], max_tokens=100, requests=2)
        [[0, 1], [2, 3]]
        >>> group([4, 4, 4, 4], max_tokens=4, requests=2)
        [[0], [1], [2], [3]]
    """
    most = min(max_tokens, ceil(sum(lengths) / max(requests, 1)))
    groups: list[list[int]] = []
    tokens = 0
    for number, length in enumerate(lengths):
        if not groups or tokens + length > most:
            groups.append([])
            tokens = 0
        groups[-1].append(number)
        tokens += length
    return groups
