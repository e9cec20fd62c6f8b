"""Operators that select prompts by difficulty.

They are operators like those of `kdlight.data.traces.response_selection`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from math import ceil, floor

from kdlight.checks import check_integer, check_range
from kdlight.data.traces.prompt_groups import CORRECT, group_by_prompt, is_correct
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.trace_checks import check_number

CURRICULUM = (5.0, 4.0, 3.0, 2.0, 1.0)
"""Weights of five levels, the easiest first."""


def pass_rate_band(
    traces: Iterable[Trace],
    *,
    low: float = 0.0,
    high: float = 1.0,
    threshold: float = CORRECT,
    inclusive: bool = False,
) -> list[Trace]:
    """Keep traces of prompts with a pass rate in a band: ``low < pass rate < high``.

    The pass rate of a prompt is the fraction of its traces that are correct.

    Args:
        traces: traces with scores, several per prompt.
        low: lower end of the band.
        high: upper end of the band.
        threshold: the smallest score of a correct trace.
        inclusive: whether the ends belong to the band.

    Raises:
        ValueError: If a number is not finite, or a trace has no score.

    Example:
        >>> traces = [Trace("a", "1", score=1), Trace("a", "2", score=0), Trace("b", "3", score=1)]
        >>> [trace.response for trace in pass_rate_band(traces)]
        ['1', '2']
    """
    check_number("low", low)
    check_number("high", high)
    kept = []
    for group in group_by_prompt(traces).values():
        rate = sum(is_correct(trace, threshold) for trace in group) / len(group)
        if low < rate < high or (inclusive and rate in (low, high)):
            kept += group
    return kept


def joint_rank(traces: Iterable[Trace], *, weight: float = 0.5, keep: float = 0.1) -> list[Trace]:
    """Keep the hardest and longest traces: the best fraction by a weighted mean of two ranks.

    Args:
        traces: traces with ``difficulty``.
        weight: weight of the rank by difficulty; the rank by length has ``1 - weight``.
        keep: fraction of the traces to keep, rounded up.

    Raises:
        ValueError: If a number is outside [0, 1], or a trace has no difficulty.

    Example:
        >>> traces = [Trace("easy", "2", difficulty=1), Trace("hard", "42", difficulty=5)]
        >>> [trace.prompt for trace in joint_rank(traces, keep=0.5)]
        ['hard']
    """
    check_range("weight", weight, 0, 1)
    check_range("keep", keep, 0, 1)
    ordered = sorted(traces, key=lambda trace: trace.key)
    by_difficulty = _ranks([_difficulty(trace) for trace in ordered])
    by_length = _ranks([trace.length for trace in ordered])
    ranks = zip(by_difficulty, by_length, strict=True)
    scores = [weight * a + (1 - weight) * b for a, b in ranks]
    best = sorted(range(len(ordered)), key=lambda i: (-scores[i], ordered[i].key))
    return [ordered[i] for i in best[: ceil(keep * len(ordered))]]


def _ranks(values: Sequence[float]) -> list[float]:
    """Return ranks from 0 to 1; equal values get the mean of their ranks."""
    positions = defaultdict(list)
    for position, value in enumerate(sorted(values)):
        positions[value].append(position)
    last = max(len(values) - 1, 1)
    return [sum(positions[value]) / len(positions[value]) / last for value in values]


def _difficulty(trace: Trace) -> float:
    if trace.difficulty is None:
        raise ValueError(
            f"a trace of prompt {trace.prompt_id!r} has no difficulty; set `difficulty` of the"
            " traces that you select by it"
        )
    return trace.difficulty


def adaptive_difficulty(
    traces: Iterable[Trace],
    *,
    total: int,
    weights: Sequence[float] | Mapping[int, float] = CURRICULUM,
    solved: Mapping[str, bool] | None = None,
    seed: int = 0,
) -> list[Trace]:
    """Sample prompts so that their levels have a given distribution; keep all their traces.

    Args:
        traces: traces with ``difficulty``, the level of the prompt, from 1.
        total: number of prompts to sample. A level with too few prompts contributes all it has.
        weights: relative number of prompts of each level; a sequence starts with level 1.
        solved: by ``prompt_id``, whether the student already solves a prompt; a solved prompt has
            level 1.
        seed: seed of the sample, which depends on it and on the ids of the prompts only.

    Raises:
        ValueError: If no weight is above 0, one is negative or not finite, ``total`` is negative,
            or a trace has no difficulty.

    Example:
        >>> traces = [Trace(f"{n}", "yes", difficulty=1 + n % 2) for n in range(10)]
        >>> len(adaptive_difficulty(traces, total=4, weights=(3, 1)))
        4
    """
    check_integer("total", total, 0)
    check_integer("seed", seed)
    by_level = dict(weights) if isinstance(weights, Mapping) else dict(enumerate(weights, start=1))
    for weight in by_level.values():
        check_number("weights", weight)
    if not by_level or min(by_level.values()) < 0 or not sum(by_level.values()) > 0:
        raise ValueError(f"weights must not be negative and not all 0, got {weights}")
    prompts, levels = group_by_prompt(traces), defaultdict(list)
    for name, group in prompts.items():
        level = 1 if (solved or {}).get(name) else int(_difficulty(group[0]))
        levels[level].append(name)
    kept = []
    for level, number in _apportion(total, by_level).items():
        order = sorted(levels[level], key=lambda n: sha256(f"{seed}:{n}".encode()).digest())
        kept += order[:number]
    return [trace for name in sorted(kept) for trace in prompts[name]]


def _apportion(total: int, weights: Mapping[int, float]) -> dict[int, int]:
    """Divide ``total`` by weights into integers, with the largest remainder method."""
    exact = {level: total * weight / sum(weights.values()) for level, weight in weights.items()}
    shares = {level: floor(value) for level, value in exact.items()}
    by_remainder = sorted(exact, key=lambda level: (shares[level] - exact[level], level))
    for level in by_remainder[: total - sum(shares.values())]:
        shares[level] += 1
    return shares
