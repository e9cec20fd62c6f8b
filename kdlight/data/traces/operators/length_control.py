"""Prompts marked with the length of their response."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from statistics import median

from kdlight.checks import check_type
from kdlight.data.traces.messages import with_prefix
from kdlight.data.traces.operators.selection import Selection
from kdlight.data.traces.prompt_groups import (
    CORRECT,
    check_one_prompt,
    group_by_prompt,
    is_correct,
    lengths,
)
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.trace_checks import check_number, check_text


def length_control(
    traces: Iterable[Trace],
    *,
    long: str = "[long]",
    short: str = "[short]",
    pairs_only: bool = True,
    threshold: float = CORRECT,
) -> Selection:
    """Put a marker of the length of the response before each prompt.

    A model that is trained on both markers gives a short response to a prompt with the short
    marker. Kang et al., "C3oT", 2024, train on a long and a compressed chain of each prompt. Only
    correct traces are marked. A prompt whose correct traces all have one length is dropped.

    Args:
        traces: traces with scores, several per prompt.
        long: marker of a long response.
        short: marker of a short response.
        pairs_only: whether to keep only the longest and the shortest correct trace of a prompt;
            else those longer than the median of the prompt are long, and those shorter are short.
        threshold: the smallest score of a correct trace.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If a marker is empty, both are the same, or a trace has no score.

    Example:
        >>> texts = ("2", "Let us see. It is 2.", "Hm, 2.")
        >>> traces = [Trace("1 + 1 =", text, score=1) for text in texts]
        >>> [(trace.prompt, trace.response) for trace in length_control(traces)]
        [('[long] 1 + 1 =', 'Let us see. It is 2.'), ('[short] 1 + 1 =', '2')]
    """
    for name, marker in (("long", long), ("short", short)):
        check_text(name, marker)
        if not marker.strip():
            raise ValueError(f"{name} must be a marker, got an empty text")
    if long == short:
        raise ValueError(f"long and short must be two markers, got {long!r} twice")
    check_type("pairs_only", pairs_only, bool, "true or false")
    check_number("threshold", threshold)
    kept, dropped = [], Counter[str]()
    for group in group_by_prompt(traces).values():
        check_one_prompt(group)
        correct = [trace for trace in group if is_correct(trace, threshold)]
        dropped["incorrect"] += len(group) - len(correct)
        sizes = lengths(correct)
        if len(set(sizes)) < 2:
            dropped["of a prompt with one length"] += len(correct)
            continue
        low, high = min(sizes), max(sizes)
        if pairs_only:
            longs, shorts = [correct[sizes.index(high)]], [correct[sizes.index(low)]]
        else:
            middle = median(sizes)
            longs = [t for t, size in zip(correct, sizes, strict=True) if size > middle]
            shorts = [t for t, size in zip(correct, sizes, strict=True) if size < middle]
        dropped["neither long nor short"] += len(correct) - len(longs) - len(shorts)
        for marker, marked in ((long, longs), (short, shorts)):
            kept += [
                # the perplexity was that with another prompt
                replace(trace, prompt=with_prefix(trace.prompt, f"{marker} "), perplexity=None)
                for trace in marked
            ]
    return Selection(kept, dropped=dropped)
