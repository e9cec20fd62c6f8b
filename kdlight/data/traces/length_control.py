"""Prompts marked with the length of their response."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from statistics import median

from kdlight.data.traces.chat import as_messages
from kdlight.data.traces.prompt_groups import group_by_prompt
from kdlight.data.traces.trace import Prompt, Trace


def length_control(
    traces: Iterable[Trace], *, long: str = "[long]", short: str = "[short]"
) -> list[Trace]:
    """Put a marker of the length of the response before each prompt.

    A model that is trained on both markers gives a short response to a prompt with the short
    marker. Responses longer than the median of their prompt are long. Prompts with one response
    are dropped.

    Args:
        traces: traces with several responses per prompt.
        long: marker of a long response.
        short: marker of a short response.

    Example:
        >>> traces = [Trace("1 + 1 =", "2"), Trace("1 + 1 =", "Let us see. It is 2.")]
        >>> sorted(trace.prompt for trace in length_control(traces))
        ['[long] 1 + 1 =', '[short] 1 + 1 =']
    """
    kept = []
    for group in group_by_prompt(traces).values():
        if len(group) < 2:
            continue
        middle = median(trace.length for trace in group)
        for trace in group:
            marker = long if trace.length > middle else short
            kept.append(replace(trace, prompt=_with_marker(trace.prompt, marker)))
    return kept


def _with_marker(prompt: Prompt, marker: str) -> Prompt:
    if isinstance(prompt, str):
        return f"{marker} {prompt}"
    *previous, last = as_messages(prompt)
    return [*previous, {**last, "content": f"{marker} {last['content']}"}]
