"""Operators that select responses: by correctness, length and quality.

An operator maps traces to traces. The result has a fixed order, which does not depend on the order
of the input.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from kdlight.checks import check_integer
from kdlight.data.traces.prompt_groups import CORRECT, group_by_prompt, is_correct
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.trace_checks import check_number


def verified_rejection(
    traces: Iterable[Trace], *, threshold: float = CORRECT, per_prompt: int | None = None
) -> list[Trace]:
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
    if per_prompt is not None:
        check_integer("per_prompt", per_prompt, 1)
    kept = []
    for group in group_by_prompt(traces).values():
        correct = [trace for trace in group if is_correct(trace, threshold)]
        incorrect = [trace for trace in group if not is_correct(trace, threshold)]
        if correct:
            kept += correct[:per_prompt] + incorrect[:per_prompt]
    return kept


def shortest_correct(
    traces: Iterable[Trace], *, n: int = 1, threshold: float = CORRECT, candidates: int = 2
) -> list[Trace]:
    """Keep the ``n`` shortest correct traces of each prompt.

    Args:
        traces: traces with scores; ties in length are broken by score and then by text.
        n: number of traces to keep per prompt.
        threshold: the smallest score of a correct trace.
        candidates: drop prompts with fewer correct traces, where "shortest" means little.

    Raises:
        ValueError: If a number is out of range, or a trace has no score.

    Example:
        >>> traces = [Trace("1 + 1 =", answer, score=1) for answer in ("2", "It is 2", "Hm, 2")]
        >>> [trace.response for trace in shortest_correct(traces)]
        ['2']
    """
    check_integer("n", n, 1)
    check_integer("candidates", candidates, 1)
    kept = []
    for group in group_by_prompt(traces).values():
        correct = [trace for trace in group if is_correct(trace, threshold)]
        if len(correct) >= candidates:
            kept += sorted(correct, key=lambda t: (t.length, -(t.score or 0), t.key))[:n]
    return kept


def quality_filter(
    traces: Iterable[Trace],
    *,
    ngram: int = 20,
    repeats: int = 20,
    max_length: int | None = None,
    max_perplexity: float | Mapping[str, float] | None = None,
) -> list[Trace]:
    """Drop traces that repeat themselves, are too long, or have a high perplexity.

    Args:
        traces: traces; scores are not needed.
        ngram: number of words in a repeated passage.
        repeats: maximal number of occurrences of one passage.
        max_length: maximal length of a response in tokens (or characters, see `Trace`).
        max_perplexity: maximal perplexity under the student, one value or one per teacher. A trace
            without a perplexity is kept.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> traces = [Trace("a", "go on " * 50), Trace("a", "done")]
        >>> [trace.response for trace in quality_filter(traces, ngram=2)]
        ['done']
    """
    check_integer("ngram", ngram, 1)
    check_integer("repeats", repeats, 0)
    limits = max_perplexity.values() if isinstance(max_perplexity, Mapping) else [max_perplexity]
    for name, limit in (("max_length", max_length), *(("max_perplexity", x) for x in limits)):
        if limit is not None:
            check_number(name, limit, finite=False)
    kept = []
    for trace in sorted(traces, key=lambda trace: trace.key):
        limit = max_perplexity
        if isinstance(limit, Mapping):
            limit = limit.get(trace.teacher or "")
        is_unlikely = (
            limit is not None and trace.perplexity is not None and trace.perplexity > limit
        )
        is_long = max_length is not None and trace.length > max_length
        if not (is_unlikely or is_long or _max_repeats(trace.response, ngram) > repeats):
            kept.append(trace)
    return kept


def _max_repeats(text: str, ngram: int) -> int:
    words, counts = text.split(), defaultdict(int)
    for start in range(len(words) - ngram + 1):
        counts[tuple(words[start : start + ngram])] += 1
    return max(counts.values(), default=0)
