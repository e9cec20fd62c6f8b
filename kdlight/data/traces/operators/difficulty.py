"""Select prompts by difficulty: a band of pass rates, or a distribution of levels."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256

from kdlight.checks import check_integer, check_range, check_type
from kdlight.data.traces.apportion import apportion
from kdlight.data.traces.mappings import as_mapping
from kdlight.data.traces.operators.requirements import with_difficulty
from kdlight.data.traces.operators.selection import Selection, warn_of_missing
from kdlight.data.traces.prompt_groups import CORRECT, group_by_prompt, is_correct
from kdlight.data.traces.readers import read_traces
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
) -> Selection:
    """Keep traces of prompts with a pass rate in a band: ``low < pass rate < high``.

    The pass rate of a prompt is the fraction of its traces that are correct.

    Args:
        traces: traces with scores, several per prompt.
        low: lower end of the band.
        high: upper end of the band.
        threshold: the smallest score of a correct trace.
        inclusive: whether the ends belong to the band.

    Raises:
        TypeError: If a number is of another kind.
        ValueError: If an end is outside [0, 1], the band is empty, or a trace has no score.

    Example:
        >>> traces = [Trace("a", "1", score=1), Trace("a", "2", score=0), Trace("b", "3", score=1)]
        >>> [trace.response for trace in pass_rate_band(traces)]
        ['1', '2']
    """
    for name, end in (("low", low), ("high", high)):
        check_number(name, end)
        check_range(name, end, 0, 1)
    check_number("threshold", threshold)
    check_type("inclusive", inclusive, bool, "true or false")
    if low > high or (low == high and not inclusive):
        raise ValueError(
            f"low must be below high, or equal with inclusive=True, got low={low} and high={high}"
        )
    kept, dropped = [], Counter[str]()
    for group in group_by_prompt(traces).values():
        rate = sum(is_correct(trace, threshold) for trace in group) / len(group)
        if low < rate < high or (inclusive and rate in (low, high)):
            kept += group
        else:
            dropped[f"pass rate {'below' if rate <= low else 'above'} the band"] += len(group)
    return Selection(kept, dropped=dropped)


def adaptive_difficulty(
    traces: Iterable[Trace],
    *,
    total: int,
    weights: Sequence[float] | Mapping[int, float] | None = None,
    like: str | list[str] | None = None,
    solved: Mapping[str, bool] | str | list[str] | None = None,
    threshold: float = CORRECT,
    seed: int = 0,
) -> Selection:
    """Sample prompts so that their levels have a given distribution; keep all their traces.

    The distribution is that of weights, or the one that is measured on an evaluation set.

    Args:
        traces: traces with ``difficulty``, the level of the prompt, a whole number; prompts without
            are dropped, unless none has one.
        total: number of prompts to sample. A level with too few prompts contributes all it has,
            with a warning.
        weights: relative number of prompts of each level; a sequence starts with level 1. By
            default `CURRICULUM`.
        like: files of traces, whose distribution of levels is used instead of weights, see
            `level_distribution`.
        solved: by ``prompt_id``, whether the student already solves a prompt; or files of verified
            traces of the student, which solves a prompt with a correct trace. A solved prompt has
            level 1.
        threshold: the smallest score of a correct trace in ``solved``.
        seed: seed of the sample, which depends on it and on the ids of the prompts only.

    Raises:
        TypeError: If a number is of another kind.
        ValueError: If no weight is above 0, one is negative or not finite, both ``weights`` and
            ``like`` are given, ``total`` is below 1, no trace has a difficulty, a difficulty is
            no level, or the traces of a prompt have several.

    Example:
        >>> traces = [Trace(f"{n}", "yes", difficulty=1 + n % 2) for n in range(10)]
        >>> len(adaptive_difficulty(traces, total=4, weights=(3, 1)))
        4
    """
    check_integer("total", total, 1)
    check_integer("seed", seed)
    check_number("threshold", threshold)
    if weights is not None and like is not None:
        raise ValueError(f"weights and like exclude each other, got {weights} and {like!r}")
    if like is not None:
        weights = level_distribution(read_traces(like))
    by_level = _levels(CURRICULUM if weights is None else weights)
    done = _solved(solved, threshold)
    prompts, levels = group_by_prompt(traces), defaultdict(list)
    dropped = Counter[str]()
    if any(name not in done for name in prompts):
        with_difficulty([t for name, group in prompts.items() if name not in done for t in group])
    for name, group in prompts.items():
        if name in done:
            levels[1].append(name)
        elif all(trace.difficulty is None for trace in group):
            dropped["without difficulty"] += len(group)
        else:
            levels[_level(group)].append(name)
    kept, missing = [], {}
    for level, number in apportion(total, dict(sorted(by_level.items()))).items():
        order = sorted(levels[level], key=lambda n: sha256(f"{seed}:{n}".encode()).digest())
        kept += order[:number]
        missing[f"prompts of level {level}"] = number - len(order[:number])
    sampled = sum(len(prompts[n]) for n in kept)
    dropped["not sampled"] = sum(len(prompts[n]) for x in by_level for n in levels[x]) - sampled
    for level in sorted(levels.keys() - by_level.keys()):
        dropped[f"level {level} has no weight"] = sum(len(prompts[n]) for n in levels[level])
    chosen = [trace for name in sorted(kept) for trace in prompts[name]]
    if not prompts:
        return Selection()
    return warn_of_missing(
        "adaptive_difficulty",
        Selection(chosen, dropped=dropped, missing=missing),
        remedy="give it more prompts of these levels, or lower total",
    )


def level_distribution(traces: Iterable[Trace]) -> dict[int, float]:
    """Return the fraction of prompts of each level, such as those of an evaluation set.

    Raises:
        ValueError: If there are no traces, or a prompt has no level.

    Example:
        >>> level_distribution([Trace("a", "", difficulty=1), Trace("b", "", difficulty=3)])
        {1: 0.5, 3: 0.5}
    """
    known = with_difficulty(list(traces))
    counts = Counter(_level(group) for group in group_by_prompt(known).values())
    if not counts:
        raise ValueError("the distribution of levels needs at least one trace, got none")
    return {level: counts[level] / counts.total() for level in sorted(counts)}


def _solved(solved: Mapping[str, bool] | str | list[str] | None, threshold: float) -> set[str]:
    """Return the ids of the prompts that are solved."""
    if solved is None:
        return set()
    if isinstance(solved, (str, list)):
        return {trace.prompt_id for trace in read_traces(solved) if is_correct(trace, threshold)}
    known = as_mapping("solved", solved)
    for name, value in known.items():
        check_type(f"solved of {name!r}", value, bool, "true or false")
    return {name for name, value in known.items() if value}


def _levels(weights: Sequence[float] | Mapping[int, float]) -> dict[int, float]:
    check_type("weights", weights, (Mapping, Sequence), "a list of numbers, or a mapping of levels")
    by_level = dict(weights) if isinstance(weights, Mapping) else dict(enumerate(weights, start=1))
    for level, weight in by_level.items():
        check_integer("a level of weights", level)
        check_number("weights", weight)
    if not by_level or min(by_level.values()) < 0 or not sum(by_level.values()) > 0:
        raise ValueError(f"weights must not be negative and not all 0, got {weights}")
    return by_level


def _level(group: Sequence[Trace]) -> int:
    levels = {float(t.difficulty) for t in group if t.difficulty is not None}
    if len(levels) > 1 or not next(iter(levels)).is_integer():
        values = ", ".join(f"{level:g}" for level in sorted(levels))
        raise ValueError(
            f"the difficulty of prompt {group[0].prompt_id!r} must be one level, a whole number,"
            f" got {values}; round what is no level, or use joint_rank"
        )
    return int(next(iter(levels)))
