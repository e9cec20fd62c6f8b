"""Select by correctness: chosen and rejected responses, and the shortest ones that are correct."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from kdlight.checks import check_integer
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


def verified_rejection(
    traces: Iterable[Trace], *, threshold: float = CORRECT, per_prompt: int | None = None
) -> Selection:
    """Keep correct traces, and incorrect traces of prompts that also have a correct one.

    Args:
        traces: traces with scores.
        threshold: the smallest score of a correct trace.
        per_prompt: maximal number of correct traces, and of incorrect ones, for a prompt; None for
            all.

    Raises:
        ValueError: If a number is out of range, or a trace has no score.

    Example:
        >>> traces = [Trace("a", "1", score=1), Trace("a", "2", score=0), Trace("b", "3", score=0)]
        >>> [trace.response for trace in verified_rejection(traces)]
        ['1', '2']
    """
    check_number("threshold", threshold)
    if per_prompt is not None:
        check_integer("per_prompt", per_prompt, 1)
    kept, dropped = [], Counter[str]()
    for group in group_by_prompt(traces).values():
        correct = [trace for trace in group if is_correct(trace, threshold)]
        incorrect = [trace for trace in group if not is_correct(trace, threshold)]
        if not correct:
            dropped["of a prompt without a correct trace"] += len(group)
            continue
        chosen = correct[:per_prompt] + incorrect[:per_prompt]
        dropped["more than per_prompt"] += len(group) - len(chosen)
        kept += chosen
    return Selection(kept, dropped=dropped)


def shortest_correct(
    traces: Iterable[Trace], *, n: int = 1, threshold: float = CORRECT, candidates: int = 2
) -> Selection:
    """Keep the ``n`` shortest correct traces of each prompt.

    Hassid et al., "Don't Overthink it", 2025: shorter chains of thought are more often right, and
    better to fine-tune on than longer ones.

    Args:
        traces: traces with scores; ties in length are broken by score and then by text.
        n: number of traces to keep per prompt.
        threshold: the smallest score of a correct trace.
        candidates: drop prompts with fewer correct traces, where "shortest" means little.

    Raises:
        ValueError: If a number is out of range, a trace has no score, or traces of one id have
            different prompts.

    Example:
        >>> traces = [Trace("1 + 1 =", answer, score=1) for answer in ("2", "It is 2", "Hm, 2")]
        >>> [trace.response for trace in shortest_correct(traces)]
        ['2']
    """
    check_integer("n", n, 1)
    check_integer("candidates", candidates, 1)
    check_number("threshold", threshold)
    kept, dropped = [], Counter[str]()
    for group in group_by_prompt(traces).values():
        check_one_prompt(group)
        correct = [trace for trace in group if is_correct(trace, threshold)]
        dropped["incorrect"] += len(group) - len(correct)
        if len(correct) < candidates:
            dropped["of a prompt with too few correct traces"] += len(correct)
            continue
        by_length = sorted(
            zip(lengths(correct), correct, strict=True), key=lambda x: (x[0], -(x[1].score or 0))
        )
        kept += [trace for _, trace in by_length[:n]]
        dropped["longer"] += len(by_length[n:])
    return Selection(kept, dropped=dropped)
