"""Traces of several teachers on the same prompts, combined."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from kdlight.checks import check_choice
from kdlight.data.traces.prompt_groups import group_by_prompt
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.trace_checks import check_number


def teacher_mix(
    traces: Iterable[Trace],
    *,
    weights: Mapping[str, float] | None = None,
    per_prompt: Literal["one", "best", "all"] = "best",
) -> list[Trace]:
    """Combine traces of several teachers on the same prompts.

    Args:
        traces: traces with ``teacher``.
        weights: relative number of traces of each teacher; traces of other teachers are dropped.
            With ``"one"``, a prompt goes to the teacher that is furthest below its share.
        per_prompt: ``"best"`` keeps the best trace by score, then perplexity, then length;
            ``"one"`` the best trace of one teacher, chosen by ``weights``; ``"all"`` every trace.

    Raises:
        ValueError: If a weight is not above 0 and finite, or ``per_prompt`` is another word.

    Example:
        >>> responses = [("one", "3", 0.0), ("two", "2", 1.0)]
        >>> traces = [Trace("1 + 1 =", text, teacher=t, score=s) for t, text, s in responses]
        >>> [trace.response for trace in teacher_mix(traces)]
        ['2']
    """
    check_choice("per_prompt", per_prompt, ("one", "best", "all"))
    for weight in (weights or {}).values():
        check_number("weights", weight)
    if weights is not None and not (weights and all(w > 0 for w in weights.values())):
        raise ValueError(f"weights must be above 0, one for each teacher, got {weights}")
    known = [t for t in traces if weights is None or (t.teacher or "") in weights]
    kept: list[Trace] = []
    counts: dict[str, int] = defaultdict(int)
    for group in group_by_prompt(known).values():
        if per_prompt == "all":
            kept += group
            continue
        if per_prompt == "one":
            shares = {t.teacher or "": 1.0 for t in group} if weights is None else weights
            teachers = sorted({t.teacher or "" for t in group})
            chosen = min(teachers, key=lambda name: (counts[name] + 1) / shares[name])
            counts[chosen] += 1
            group = [t for t in group if (t.teacher or "") == chosen]
        kept.append(min(group, key=_best_first))
    return kept


def _best_first(trace: Trace) -> tuple[Any, ...]:
    perplexity = float("inf") if trace.perplexity is None else trace.perplexity
    return -(trace.score or 0.0), perplexity, trace.length, trace.key
