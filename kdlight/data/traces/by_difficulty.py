"""Selection of prompts by how hard they are.

All operators are like those of `kdlight.data.traces.by_trace`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from math import ceil, floor

from kdlight.data.traces.by_trace import RIGHT, by_prompt, is_right
from kdlight.data.traces.record import Trace

CURRICULUM = (5.0, 4.0, 3.0, 2.0, 1.0)
"""Weights of five levels, the easiest first."""


def pass_rate_band(
    traces: Iterable[Trace],
    *,
    low: float = 0.0,
    high: float = 1.0,
    threshold: float = RIGHT,
    inclusive: bool = False,
) -> list[Trace]:
    """Traces of prompts that are solved sometimes: ``low < share of right traces < high``.

    Args:
        traces: with scores, several of a prompt.
        low: lower end of the band.
        high: upper end.
        threshold: the least score of a right trace.
        inclusive: whether the ends belong to the band.

    Example:
        >>> traces = [Trace("a", "1", score=1), Trace("a", "2", score=0), Trace("b", "3", score=1)]
        >>> [trace.response for trace in pass_rate_band(traces)]
        ['1', '2']
    """
    kept = []
    for group in by_prompt(traces).values():
        rate = sum(is_right(trace, threshold) for trace in group) / len(group)
        if low < rate < high or (inclusive and rate in (low, high)):
            kept += group
    return kept


def joint_rank(traces: Iterable[Trace], *, weight: float = 0.5, keep: float = 0.1) -> list[Trace]:
    """The hardest and longest traces: the best share by a mean of two ranks.

    Args:
        traces: with ``difficulty``.
        weight: of the rank by difficulty; what is left is that of the rank by length.
        keep: the share to keep, rounded up.

    Raises:
        ValueError: a number outside [0, 1], or a trace without difficulty.

    Example:
        >>> traces = [Trace("easy", "2", difficulty=1), Trace("hard", "42", difficulty=5)]
        >>> [trace.prompt for trace in joint_rank(traces, keep=0.5)]
        ['hard']
    """
    for name, value in (("weight", weight), ("keep", keep)):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} must be in [0, 1], got {value}")
    given = sorted(traces, key=lambda trace: trace.key)
    hard = _ranks([_difficulty(trace) for trace in given])
    long = _ranks([trace.length for trace in given])
    scores = [weight * a + (1 - weight) * b for a, b in zip(hard, long, strict=True)]
    order = sorted(range(len(given)), key=lambda i: (-scores[i], given[i].key))
    return [given[i] for i in order[: ceil(keep * len(given))]]


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 0 to 1; what is equal has one rank, the mean of its places."""
    places = defaultdict(list)
    for place, value in enumerate(sorted(values)):
        places[value].append(place)
    last = max(len(values) - 1, 1)
    return [sum(places[value]) / len(places[value]) / last for value in values]


def _difficulty(trace: Trace) -> float:
    if trace.difficulty is None:
        raise ValueError(f"a trace of prompt {trace.prompt_id!r} has no difficulty to rank it by")
    return trace.difficulty


def adaptive_difficulty(
    traces: Iterable[Trace],
    *,
    total: int,
    weights: Sequence[float] | Mapping[int, float] = CURRICULUM,
    solved: Mapping[str, bool] | None = None,
    seed: int = 0,
) -> list[Trace]:
    """Prompts drawn so that their levels have a wanted distribution; all their traces come along.

    Args:
        traces: with ``difficulty``, the level of the prompt, from 1.
        total: how many prompts to draw. Where a level has too few, it gives what it has.
        weights: how much of each level; a sequence begins with level 1.
        solved: whether the student solves a prompt by itself, by ``prompt_id``: then it is level 1.
        seed: of the draw, which is a function of it and of the names of the prompts.

    Raises:
        ValueError: no weight above 0, or a trace without difficulty.

    Example:
        >>> traces = [Trace(f"{n}", "yes", difficulty=1 + n % 2) for n in range(10)]
        >>> len(adaptive_difficulty(traces, total=4, weights=(3, 1)))
        4
    """
    wanted = dict(weights) if isinstance(weights, Mapping) else dict(enumerate(weights, start=1))
    if not wanted or min(wanted.values()) < 0 or not sum(wanted.values()) > 0:
        raise ValueError(f"weights must not be negative and not all 0, got {weights}")
    prompts, levels = by_prompt(traces), defaultdict(list)
    for name, group in prompts.items():
        level = 1 if (solved or {}).get(name) else int(_difficulty(group[0]))
        levels[level].append(name)
    kept = []
    for level, number in _shares(wanted, total).items():
        order = sorted(levels[level], key=lambda n: sha256(f"{seed}:{n}".encode()).digest())
        kept += order[:number]
    return [trace for name in sorted(kept) for trace in prompts[name]]


def _shares(weights: Mapping[int, float], total: int) -> dict[int, int]:
    """``total`` divided by weights into whole numbers, by largest remainder."""
    exact = {level: total * weight / sum(weights.values()) for level, weight in weights.items()}
    shares = {level: floor(value) for level, value in exact.items()}
    rest = sorted(exact, key=lambda level: (shares[level] - exact[level], level))
    for level in rest[: total - sum(shares.values())]:
        shares[level] += 1
    return shares
