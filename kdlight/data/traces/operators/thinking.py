"""Reasoning in tags: split from the answer, and replaced by a sentence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from kdlight.data.traces.mappings import as_mapping
from kdlight.data.traces.messages import REASONING
from kdlight.data.traces.operators.selection import Selection, warn_of_missing
from kdlight.data.traces.operators.user_texts import counts, with_response
from kdlight.data.traces.prompt_groups import in_order
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.trace_checks import check_number, check_text

OPENING, CLOSING = "<think>", "</think>"
FILL = "I can answer this directly."


class Thinking(NamedTuple):
    """The two parts of a response, without the tags between them.

    Attributes:
        thinking: the reasoning, empty if there is none.
        answer: what follows it, empty if the reasoning does not end.
    """

    thinking: str
    answer: str


def split_thinking(response: str, *, opening: str = OPENING, closing: str = CLOSING) -> Thinking:
    """Return the reasoning of a response and its answer.

    The answer is what follows the last closing tag. The opening tag may be missing, as chat
    templates put it into the prompt. Reasoning that an opening tag begins, at the start of the
    response or of a line behind all closing tags, and that does not end has no answer. A response
    without reasoning is an answer.

    Args:
        response: the response.
        opening: the tag before the reasoning.
        closing: the tag after the reasoning.

    Raises:
        TypeError: If an argument is no text.
        ValueError: If a tag is empty, or both are the same.

    Example:
        >>> split_thinking("<think>One and one.</think>2")
        Thinking(thinking='One and one.', answer='2')
        >>> split_thinking("<think>One and")
        Thinking(thinking='One and', answer='')
    """
    check_text("response", response)
    check_tags(opening, closing)
    before, closed, answer = response.rpartition(closing)
    # the last tag counts, as in chat templates: reasoning may speak of tags, or come in parts
    if re.search(rf"(?:\A|\n)[^\S\n]*{re.escape(opening)}", answer):
        before, closed, answer = response, opening, ""
    if not closed:
        return Thinking("", response)
    start = before.lstrip()
    return Thinking(start.removeprefix(opening) if start.startswith(opening) else before, answer)


def without_thinking(
    traces: Iterable[Trace],
    *,
    fill: str | None = FILL,
    helps: Mapping[str, float] | str | Path | None = None,
    opening: str = OPENING,
    closing: str = CLOSING,
) -> Selection:
    r"""Replace the reasoning in tags by a sentence.

    Ma et al., "Reasoning Models Can Be Effective Without Thinking", 2025, let a model answer after
    such a sentence. Zhang et al., "AdaptThink", 2025, train with and without reasoning. A trace
    whose reasoning has no answer after it is dropped; one without reasoning stays as it is.
    Reasoning in a field of the response, such as ``reasoning_content``, is replaced in the field.

    Args:
        traces: traces. They keep their scores; a response that is changed has no ``n_tokens`` and
            no ``perplexity``.
        fill: the sentence, between the tags and the white space of the reasoning; an empty text
            for none; None to drop the tags, too.
        helps: by prompt id, whether reasoning helps, which keeps it; see
            `kdlight.data.traces.reasoning_helps`. A number helps if it is above 0. Traces of
            prompts that it lacks stay as they are, with a warning. It may be a JSON file.
        opening: the tag before the reasoning; it may be missing in a response.
        closing: the tag after the reasoning.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If a tag is empty, both are the same, or ``fill`` has one of them.

    Example:
        >>> traces = [Trace("1 + 1 =", "<think>\nOne and one.\n</think>\n\n2")]
        >>> without_thinking(traces, fill="That is easy.")[0].response
        '<think>\nThat is easy.\n</think>\n\n2'
    """
    check_tags(opening, closing)
    if fill is not None:
        check_text("fill", fill)
        if opening in fill or closing in fill:
            raise ValueError(f"fill must be without the tags {opening} and {closing}, got {fill!r}")
    helped = None if helps is None else as_mapping("helps", helps)
    for value in (helped or {}).values():
        check_number("helps", value)
    kept, dropped, outcomes = [], Counter[str](), Counter[str]()
    unknown = set[str]()
    for trace in in_order(traces):
        thinking, answer = split_thinking(trace.response, opening=opening, closing=closing)
        fields = [name for name in REASONING if trace.response_fields.get(name)]
        if helped is not None and trace.prompt_id not in helped:
            unknown.add(trace.prompt_id)
            outcome = "kept, not known whether reasoning helps"
        elif helped is not None and helped[trace.prompt_id] > 0:
            outcome = "kept, reasoning helps"
        elif answer == trace.response and not fields:
            outcome = "kept, no reasoning"
        elif not answer.strip() and not trace.response_fields.get("tool_calls"):
            dropped["no answer after the reasoning"] += 1
            continue
        else:
            outcome = "without reasoning"
            if answer != trace.response:
                response = _filled(trace.response, thinking, answer, fill, closing)
                trace = _changed(trace, response, trace.response_fields)
            others = {n: v for n, v in trace.response_fields.items() if n not in fields}
            filled = dict.fromkeys(fields, fill) if fill else {}
            trace = _changed(trace, trace.response, {**others, **filled})
        outcomes[outcome] += 1
        kept.append(trace)
    selection = Selection(
        in_order(kept),
        dropped=dropped,
        missing={"prompts in helps": len(unknown)},
        notes=counts(outcomes),
    )
    return warn_of_missing(
        "without_thinking", selection, remedy="their traces stay as they are; give a value to each"
    )


def check_tags(opening: str, closing: str) -> None:
    """Raise an error for what are no two tags.

    Raises:
        TypeError: If one is no text.
        ValueError: If one is empty, or part of the other.

    Example:
        >>> check_tags("<think>", "")
        Traceback (most recent call last):
        ValueError: closing must be a tag, got ''
    """
    for name, tag in (("opening", opening), ("closing", closing)):
        check_text(name, tag)
        if not tag.strip():
            raise ValueError(f"{name} must be a tag, got {tag!r}")
    if opening in closing or closing in opening:
        raise ValueError(
            f"opening and closing must be two tags, neither in the other, got {opening!r} and"
            f" {closing!r}"
        )


def _changed(trace: Trace, response: str, fields: Mapping[str, Any]) -> Trace:
    if response == trace.response and dict(fields) == dict(trace.response_fields):
        return trace
    return replace(with_response(trace, response), response_fields=dict(fields))


def _filled(response: str, thinking: str, answer: str, fill: str | None, closing: str) -> str:
    """Return a response with ``fill`` as its reasoning, in the white space of the old one."""
    if fill is None:
        return answer.lstrip()
    if thinking.strip() == fill.strip():
        return response
    head = response[: len(response) - len(thinking) - len(closing) - len(answer)]
    half = len(thinking) // 2 if not thinking.strip() else None
    begin = thinking[:half] if half is not None else thinking[: -len(thinking.lstrip())]
    end = thinking[half:] if half is not None else thinking[len(thinking.rstrip()) :]
    return head + begin + fill + end + closing + answer
