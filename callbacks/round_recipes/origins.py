"""Where a trace comes from: the round, who answered, and with what score."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from json import dumps
from typing import Any, Literal

from kdlight.data.traces.trace import Trace, hash_prompt

ORIGIN = "origin"
"""The entry of ``Trace.meta`` that tells it."""

Author = Literal["student", "teacher"]


def with_origin(trace: Trace, number: int, author: Author, **more: Any) -> Trace:
    """Return a trace with its origin in ``meta["origin"]``.

    Args:
        trace: the trace.
        number: number of the round, from 1.
        author: who answered.
        **more: further entries, such as the id of the prompt that the trace's prompt resembles.

    Example:
        >>> with_origin(Trace("1 + 1 =", "2", score=1.0), 3, "student").meta
        {'origin': {'round': 3, 'author': 'student', 'score': 1.0}}
    """
    origin = {"round": number, "author": author, "score": trace.score, **more}
    return replace(trace, meta={**trace.meta, ORIGIN: origin})


def as_prompt(trace: Trace) -> Trace:
    """Return the prompt of a trace, without anything that belongs to its response.

    Example:
        >>> as_prompt(Trace("1 + 1 =", "2", answer="2", score=1.0, teacher="T"))
        Trace(prompt='1 + 1 =', response='', prompt_id='...', answer='2', score=None, ...
    """
    kept = {name: value for name, value in trace.meta.items() if name not in (ORIGIN, "generation")}
    return Trace(
        prompt=trace.prompt,
        response="",
        prompt_id=trace.prompt_id,
        answer=trace.answer,
        difficulty=trace.difficulty,
        tools=trace.tools,
        meta=kept,
    )


def prompt_content(trace: Trace) -> Hashable:
    """Return what two equal prompts have in common, whatever their ids.

    Example:
        >>> one, other = Trace("1 + 1 =", "2", prompt_id="a"), Trace("1 + 1 =", "3", prompt_id="b")
        >>> prompt_content(one) == prompt_content(other)
        True
    """
    return hash_prompt(trace.prompt, trace.tools)


def content(trace: Trace) -> Hashable:
    """Return what two equal traces have in common: prompt and response, whatever their scores.

    Example:
        >>> content(Trace("1 + 1 =", "2")) == content(Trace("1 + 1 =", "2", score=1.0))
        True
    """
    fields = dumps(dict(trace.response_fields), sort_keys=True)
    return prompt_content(trace), trace.response, fields


def unique(traces: list[Trace], taken: set[Hashable], key: Any = content) -> list[Trace]:
    """Return the traces that are equal neither to one of ``taken`` nor to one before them.

    Args:
        traces: traces.
        taken: contents of other traces; it is not changed.
        key: what makes two traces equal.

    Example:
        >>> twice = [Trace("1 + 1 =", "2"), Trace("1 + 1 =", "2"), Trace("1 + 1 =", "3")]
        >>> [trace.response for trace in unique(twice, {content(twice[2])})]
        ['2']
    """
    seen, kept = set(taken), []
    for trace in traces:
        if key(trace) not in seen:
            seen.add(key(trace))
            kept.append(trace)
    return kept
