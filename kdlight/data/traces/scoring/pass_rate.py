"""Difficulty of prompts by the fraction of responses that are correct, and levels of it."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from math import floor

from kdlight.checks import check_finite, check_integer
from kdlight.data.traces.prompt_groups import CORRECT, group_by_prompt, is_correct
from kdlight.data.traces.trace import Trace


def pass_rate_difficulty(
    traces: Iterable[Trace], *, threshold: float = CORRECT, levels: int | None = None
) -> list[float]:
    """Return the difficulty of each trace's prompt: the fraction of its traces that are incorrect.

    It is 1 minus the pass rate, from 0 for a prompt that is always solved to 1 for one that never
    is. Traces of the student tell what is difficult for the student. All traces of a prompt are
    needed, the incorrect and the unfinished ones included: ``kdlight traces verify`` writes them to
    ``positives.jsonl``, ``negatives.jsonl`` and ``unfinished.jsonl``.

    Args:
        traces: traces with scores, several per prompt.
        threshold: the smallest score of a correct trace.
        levels: number of levels, of equal width; the difficulty is then a level from 1, the
            easiest, to this number, as `adaptive_difficulty` uses them. None for no levels.

    Returns:
        A difficulty for each trace, in the same order.

    Raises:
        TypeError: If ``levels`` is no integer.
        ValueError: If ``levels`` is below 2, the threshold is not finite, or a trace has no score.

    Example:
        >>> traces = [Trace("a", "1", score=1), Trace("a", "2", score=0), Trace("b", "3", score=0)]
        >>> pass_rate_difficulty(traces)
        [0.5, 0.5, 1.0]
        >>> pass_rate_difficulty(traces, levels=5)
        [3, 3, 5]
    """
    check_finite("threshold", threshold)
    check_levels(levels)
    traces = list(traces)
    by_prompt: dict[str, float] = {}
    for name, group in group_by_prompt(traces).items():
        wrong = Fraction(sum(not is_correct(trace, threshold) for trace in group), len(group))
        by_prompt[name] = float(wrong) if levels is None else to_level(wrong, levels)
    return [by_prompt[trace.prompt_id] for trace in traces]


def check_levels(levels: int | None) -> None:
    """Raise an error for what is no number of levels; None stands for no levels.

    Raises:
        TypeError: If it is no integer.
        ValueError: If it is below 2.
    """
    if levels is not None:
        check_integer("levels", levels, 2)


def to_level(difficulty: float | Fraction, levels: int) -> int:
    """Return the level, from 1 to ``levels``, of a difficulty from 0 to 1.

    Example:
        >>> [to_level(each, 4) for each in (0, 0.24, 0.25, 0.99, 1)]
        [1, 1, 2, 4, 4]
    """
    return min(1 + floor(difficulty * levels), levels)
