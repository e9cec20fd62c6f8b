"""Pairs of a short chosen and a long rejected response, for preference learning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Literal

from kdlight.checks import check_choice, check_range
from kdlight.data.traces.operators.selection import Selection
from kdlight.data.traces.prompt_groups import (
    CORRECT,
    check_one_prompt,
    group_by_prompt,
    is_correct,
    lengths,
)
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.trace_checks import check_number

Rows = list[tuple[Trace, int]]


def length_pairs(
    traces: Iterable[Trace],
    *,
    level: Literal["instance", "group"] = "instance",
    min_pass_rate: float = 1.0,
    margin: float = 0.0,
    threshold: float = CORRECT,
) -> Selection:
    """Make one pair of each prompt that teaches to answer in fewer words, for DPO and SimPO.

    ``"instance"``: the shortest correct trace is chosen, the longest correct one rejected. Prompts
    that are not solved often enough have no pair: Song and Zheng, "Walk Before You Run", 2025, and
    Dai et al., "Stable Reinforcement Learning for Efficient Reasoning", 2025, shorten responses
    only where the responses to a prompt are correct.

    ``"group"``: Luo et al., "AdaR1", 2025, learn from pairs of groups, too: for each prompt, the
    responses of a model with long reasoning or of one with short reasoning are preferred. Here
    the two are told apart by ``teacher``. The one that answers longer, on average, is preferred if
    its pass rate is higher by more than ``margin``, else the shorter one; its shortest correct
    trace is chosen. Of the other one a trace is rejected, an incorrect one if there is one, the
    longest of these. One pair a prompt, ``margin`` and which trace is rejected are choices of
    kdlight.

    A rejected trace has the score 0, by which `kdlight.data.traces.TracesDataModule` tells it from
    a chosen one; its own score is in ``meta["score"]``.

    Args:
        traces: traces with scores, several per prompt.
        level: ``"instance"`` or ``"group"``.
        min_pass_rate: the smallest fraction of correct traces, of all traces of the prompt for
            ``"instance"``, of those of the preferred teacher for ``"group"``.
        margin: for ``"group"``, by how much the pass rate of the longer one must be higher.
        threshold: the smallest score of a correct trace.

    Returns:
        Of each pair the chosen trace, then the rejected one, in the order of prompt ids.

    Raises:
        TypeError: If a number is of another kind.
        ValueError: If ``level`` is another word, a number is out of range, ``margin`` is given
            without ``"group"``, the threshold is not above 0, a trace has no score, traces of one
            id have different prompts, or for ``"group"`` the traces are not of two teachers.

    Example:
        >>> traces = [Trace("1 + 1 =", text, score=1) for text in ("2", "It is 2", "Hm, 2")]
        >>> [(trace.response, trace.score) for trace in length_pairs(traces)]
        [('2', 1), ('It is 2', 0.0)]
    """
    check_choice("level", level, ("instance", "group"))
    for name, value in (("min_pass_rate", min_pass_rate), ("margin", margin)):
        check_number(name, value)
        check_range(name, value, 0, 1)
    if margin and level == "instance":
        raise ValueError(f"margin compares groups, set level='group' or margin=0, got {margin}")
    check_number("threshold", threshold)
    if threshold <= 0:
        raise ValueError(
            f"threshold must be above 0, the score of a rejected trace, got {threshold}"
        )
    groups = group_by_prompt(traces)
    if level == "group":
        _check_teachers(groups.values())
    kept, dropped = [], Counter[str]()
    for group in groups.values():
        check_one_prompt(group)
        for trace in group:
            is_correct(trace, threshold)  # an error without a score, whether or not it is needed
        rows = list(zip(group, lengths(group), strict=True))
        if level == "instance":
            reason, pair = _instance_pair(rows, min_pass_rate, threshold)
        else:
            reason, pair = _group_pair(rows, min_pass_rate, margin, threshold)
        dropped[reason] += len(group) - len(pair)
        if pair:
            chosen, rejected = pair
            meta = {**rejected.meta, "score": rejected.score}
            kept += [chosen, replace(rejected, score=0.0, meta=meta)]
    return Selection(kept, dropped=dropped)


def _instance_pair(rows: Rows, min_pass_rate: float, threshold: float) -> tuple[str, list[Trace]]:
    """Return why traces of a prompt are dropped, and the pair if there is one."""
    correct = _correct(rows, threshold)
    if not correct or len(correct) / len(rows) < min_pass_rate:
        return "of a prompt with a low pass rate", []
    chosen, rejected = _shortest(correct), max(correct, key=lambda row: row[1])
    if chosen[1] == rejected[1]:
        return "of a prompt with one length", []
    return "not of a pair", [chosen[0], rejected[0]]


def _group_pair(
    rows: Rows, min_pass_rate: float, margin: float, threshold: float
) -> tuple[str, list[Trace]]:
    """Return why traces of a prompt are dropped, and the pair if there is one."""
    names = sorted({trace.teacher or "" for trace, _ in rows})
    if len(names) < 2:
        return "of a prompt with one teacher", []
    sides = [[row for row in rows if (row[0].teacher or "") == name] for name in names]
    means = [fmean(length for _, length in side) for side in sides]
    if means[0] == means[1]:
        return "of a prompt with one length", []
    short, long = sides if means[0] < means[1] else sides[::-1]
    rates = [len(_correct(side, threshold)) / len(side) for side in (short, long)]
    longer = rates[1] - rates[0] > margin
    preferred, other, rate = (long, short, rates[1]) if longer else (short, long, rates[0])
    if not rate or rate < min_pass_rate:
        return "of a prompt with a low pass rate", []
    incorrect = [row for row in other if not is_correct(row[0], threshold)]
    rejected = max(incorrect or other, key=lambda row: row[1])
    return "not of a pair", [_shortest(_correct(preferred, threshold))[0], rejected[0]]


def _correct(rows: Rows, threshold: float) -> Rows:
    return [row for row in rows if is_correct(row[0], threshold)]


def _shortest(rows: Rows) -> tuple[Trace, int]:
    """Return the shortest trace and its length; of equal ones that with the higher score."""
    return min(rows, key=lambda row: (row[1], -(row[0].score or 0)))


def _check_teachers(groups: Iterable[Sequence[Trace]]) -> None:
    names = sorted({trace.teacher or "" for group in groups for trace in group})
    if names and len(names) != 2:
        raise ValueError(
            "level='group' compares the traces of two teachers, one with long and one with short"
            f" reasoning, got those of {len(names)}: {', '.join(map(repr, names[:5]))}; set"
            " `teacher`, or use level='instance'"
        )
