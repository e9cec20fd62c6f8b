"""Selection of traces by what each of them is, or is beside the others of its prompt.

An operator maps traces to traces. What comes out is in a fixed order, and does not depend on the
order of what went in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any, Literal

from kdlight.data.traces.chat import as_messages
from kdlight.data.traces.record import Trace

RIGHT = 0.9
"""The least score of a right trace, if nothing else is said."""


def by_prompt(traces: Iterable[Trace]) -> dict[str, list[Trace]]:
    """The traces of each prompt, prompts and traces in the order of `Trace.key`."""
    prompts: dict[str, list[Trace]] = defaultdict(list)
    for trace in sorted(traces, key=lambda trace: trace.key):
        prompts[trace.prompt_id].append(trace)
    return dict(prompts)


def is_right(trace: Trace, threshold: float = RIGHT) -> bool:
    """Whether the trace was found right.

    Raises:
        ValueError: nobody has looked.
    """
    if trace.score is None:
        raise ValueError(
            f"a trace of prompt {trace.prompt_id!r} has no score; verify traces before they are"
            " selected by it (kdlight traces verify)"
        )
    return trace.score >= threshold


def verified_rejection(
    traces: Iterable[Trace], *, threshold: float = RIGHT, per_prompt: int | None = None
) -> list[Trace]:
    """Right traces, and wrong ones of prompts that have a right one too.

    Args:
        traces: with scores.
        threshold: the least score of a right trace.
        per_prompt: at most so many of each side for a prompt.

    Example:
        >>> traces = [Trace("a", "1", score=1), Trace("a", "2", score=0), Trace("b", "3", score=0)]
        >>> [trace.response for trace in verified_rejection(traces)]
        ['1', '2']
    """
    kept = []
    for group in by_prompt(traces).values():
        right = [trace for trace in group if is_right(trace, threshold)]
        wrong = [trace for trace in group if not is_right(trace, threshold)]
        if right:
            kept += right[:per_prompt] + wrong[:per_prompt]
    return kept


def shortest_correct(
    traces: Iterable[Trace], *, n: int = 1, threshold: float = RIGHT, candidates: int = 2
) -> list[Trace]:
    """The ``n`` shortest right traces of each prompt.

    Args:
        traces: with scores; ties in length are broken by the score and then by the text.
        n: how many.
        threshold: the least score of a right trace.
        candidates: leave out prompts with fewer right ones, among which none is short.

    Example:
        >>> traces = [Trace("1 + 1 =", answer, score=1) for answer in ("2", "It is 2", "Hm, 2")]
        >>> [trace.response for trace in shortest_correct(traces)]
        ['2']
    """
    kept = []
    for group in by_prompt(traces).values():
        right = [trace for trace in group if is_right(trace, threshold)]
        if len(right) >= candidates:
            kept += sorted(right, key=lambda t: (t.length, -(t.score or 0), t.key))[:n]
    return kept


def quality_filter(
    traces: Iterable[Trace],
    *,
    ngram: int = 20,
    repeats: int = 20,
    max_length: int | None = None,
    max_perplexity: float | Mapping[str, float] | None = None,
) -> list[Trace]:
    """Traces that do not go round in circles, and are neither too long nor too strange.

    Args:
        traces: of any kind.
        ngram: words of a passage.
        repeats: how often a passage may come.
        max_length: of a response, in tokens (or characters, see `Trace`).
        max_perplexity: under the student, perhaps by teacher. A trace without one is kept.

    Example:
        >>> traces = [Trace("a", "go on " * 50), Trace("a", "done")]
        >>> [trace.response for trace in quality_filter(traces, ngram=2)]
        ['done']
    """
    kept = []
    for trace in sorted(traces, key=lambda trace: trace.key):
        limit = max_perplexity
        if isinstance(limit, Mapping):
            limit = limit.get(trace.teacher or "")
        strange = limit is not None and trace.perplexity is not None and trace.perplexity > limit
        long = max_length is not None and trace.length > max_length
        if not (strange or long or _most_repeated(trace.response, ngram) > repeats):
            kept.append(trace)
    return kept


def _most_repeated(text: str, ngram: int) -> int:
    words, counts = text.split(), defaultdict(int)
    for start in range(len(words) - ngram + 1):
        counts[tuple(words[start : start + ngram])] += 1
    return max(counts.values(), default=0)


def teacher_mix(
    traces: Iterable[Trace],
    *,
    weights: Mapping[str, float] | None = None,
    per_prompt: Literal["one", "best", "all"] = "best",
) -> list[Trace]:
    """Traces of several teachers on the same prompts, brought together.

    Args:
        traces: with ``teacher``.
        weights: how much of each teacher to have; teachers that are not named are left out. With
            ``"one"`` a prompt goes to the teacher that is furthest behind its share.
        per_prompt: ``"best"`` one by score, then perplexity, then length; ``"one"`` the best one of
            the teacher whose turn it is; ``"all"`` everything.

    Example:
        >>> asked = [("one", "3", 0.0), ("two", "2", 1.0)]
        >>> traces = [Trace("1 + 1 =", said, teacher=who, score=s) for who, said, s in asked]
        >>> [trace.response for trace in teacher_mix(traces)]
        ['2']
    """
    if weights is not None and not (weights and all(w > 0 for w in weights.values())):
        raise ValueError(f"weights must be above 0, one for each teacher, got {weights}")
    known = [t for t in traces if weights is None or (t.teacher or "") in weights]
    kept, given = [], defaultdict(float)
    for group in by_prompt(known).values():
        if per_prompt == "all":
            kept += group
            continue
        if per_prompt == "one":
            shares = {t.teacher or "": 1.0 for t in group} if weights is None else weights
            here = sorted({t.teacher or "" for t in group})
            turn = min(here, key=lambda name: (given[name] + 1) / shares[name])
            given[turn] += 1
            group = [t for t in group if (t.teacher or "") == turn]
        kept.append(min(group, key=_worse_first))
    return kept


def _worse_first(trace: Trace) -> tuple[Any, ...]:
    perplexity = float("inf") if trace.perplexity is None else trace.perplexity
    return -(trace.score or 0.0), perplexity, trace.length, trace.key


def length_control(
    traces: Sequence[Trace], *, long: str = "[long]", short: str = "[short]"
) -> list[Trace]:
    """Each prompt with a long and with a short answer, told apart by a marker before the prompt.

    Trained on both, a model is asked for the short form by its marker. Answers longer than the
    median of their prompt are long; prompts with one answer are left out.

    Example:
        >>> traces = [Trace("1 + 1 =", "2"), Trace("1 + 1 =", "Let us see. It is 2.")]
        >>> sorted(trace.prompt for trace in length_control(traces))
        ['[long] 1 + 1 =', '[short] 1 + 1 =']
    """
    kept = []
    for group in by_prompt(traces).values():
        if len(group) < 2:
            continue
        middle = median(trace.length for trace in group)
        for trace in group:
            marker = long if trace.length > middle else short
            kept.append(replace(trace, prompt=_marked(trace, marker)))
    return kept


def _marked(trace: Trace, marker: str) -> Any:
    if isinstance(trace.prompt, str):
        return f"{marker} {trace.prompt}"
    *before, last = as_messages(trace.prompt)
    return [*before, {**last, "content": f"{marker} {last['content']}"}]
