"""Traces from the rows of common dataset formats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import takewhile
from typing import Any

from kdlight.checks import check_type
from kdlight.data.traces.conversations import OPENING, split_conversation, tools_of
from kdlight.data.traces.messages import Prompt, as_messages, content_text, other_fields
from kdlight.data.traces.open_r1 import open_r1, why_left_out
from kdlight.data.traces.row_fields import (
    PROMPT_FIELDS,
    RESPONSE_FIELDS,
    known_fields,
    other_fields_of,
    prompt_id,
)
from kdlight.data.traces.trace import FIELDS, Trace, hash_prompt
from kdlight.data.traces.trace_checks import check_number

Row = Mapping[str, Any]


def to_traces(row: Row) -> list[Trace]:
    """Return the traces in a row of a dataset, whose format is found by its fields.

    ===================================  ======================================================
    ``prompt``, ``response``             a trace of kdlight, see `Trace`
    ``problem``, ``generations``         Open-R1: the score is the least verdict of the verifiers
                                         in ``correctness`` (or in ``correctness_...``)
    ``chosen``, ``rejected``             a chosen and a rejected response, with ``prompt`` or
                                         with the whole conversation in each
    ``prompt``, ``completion``           one response; ``label``, or else ``score``, is its score
    ``messages``                         a conversation that ends with the response, a message
                                         of the assistant; its prompt id is that of the
                                         messages of system and user
    ===================================  ======================================================

    A response is a text, or messages of which the last is the response. Messages keep their fields,
    such as ``tool_calls``; those of the response are its ``response_fields``. The prompt id is
    taken from ``prompt_id``, ``uuid`` or ``id``, and tools from ``tools``, a list or a text of
    JSON. ``answer``, ``finished``, ``teacher`` and ``difficulty``, if it is a number, are those of
    a trace; so are ``score``, ``n_tokens`` and ``perplexity`` in a row with one response. Other
    fields of a row that JSON can represent, and what its ``meta`` holds, are kept in ``meta``.

    Raises:
        TypeError: If a field holds a value of another kind.
        ValueError: If the row has none of these fields, or no response; a message has no role or no
            content, or what is no text, such as an image; a score is not finite.

    Example:
        >>> row = {"prompt": "2 + 2 =", "chosen": "4", "rejected": "5"}
        >>> [(trace.response, trace.score) for trace in to_traces(row)]
        [('4', 1.0), ('5', 0.0)]
    """
    for required, read in FORMATS:
        if _has(row, required):
            return list(read(row))
    known = "; ".join(" and ".join(required) for required, _ in FORMATS)
    raise ValueError(f"a row has fields {sorted(row)}, but a trace needs: {known}")


def _kdlight(row: Row) -> Iterator[Trace]:
    row = {**row, "tools": tools_of(row)}
    known = {name: value for name, value in row.items() if name in FIELDS and value is not None}
    check_type("meta", known.get("meta", {}), Mapping, "an object")
    meta = {name: value for name, value in row.items() if name not in FIELDS}
    meta |= known.get("meta", {})
    yield Trace(**{**known, "meta": meta, "prompt_id": prompt_id(row)})


def why_no_trace(row: Row) -> str:
    """Return why a row that `to_traces` can read has no trace, or an empty text.

    Such rows stand in datasets of the format of Open-R1.

    Example:
        >>> why_no_trace({"problem": "q", "generations": ["a", "b"], "correctness_x": [True]})
        'verdicts that do not match the responses'
    """
    reads = next((read for names, read in FORMATS if _has(row, names)), None)
    return why_left_out(row) if reads is open_r1 else ""


def _has(row: Row, names: tuple[str, ...]) -> bool:
    return all(row.get(name) is not None for name in names)


def _preference(row: Row) -> Iterator[Trace]:
    known = known_fields(row, PROMPT_FIELDS)
    meta = other_fields_of(row, ("prompt", "chosen", "rejected", *known))
    chosen, rejected = (
        _trace(row, row[name], row.get("prompt"), meta, score=score, **known)
        for name, score in (("chosen", 1.0), ("rejected", 0.0))
    )
    if chosen.prompt_id != rejected.prompt_id:  # turns of the assistant differ, the prompt does not
        both = zip(as_messages(chosen.prompt), as_messages(rejected.prompt), strict=False)
        shared = [one for one, _ in takewhile(lambda each: each[0] == each[1], both)]
        if shared:
            shared_id = hash_prompt(shared, chosen.tools)
            chosen, rejected = (replace(t, prompt_id=shared_id) for t in (chosen, rejected))
    yield chosen
    yield rejected


def _completion(row: Row) -> Iterator[Trace]:
    label = row.get("label")
    if label is not None:
        check_number("label", label)
    known = known_fields(row, RESPONSE_FIELDS)
    used = {"prompt", "completion", "label", *known}
    if label is not None:
        used.discard("score")  # another number than the label is kept
        known["score"] = float(label)
    yield _trace(row, row["completion"], row["prompt"], other_fields_of(row, used), **known)


def _messages(row: Row) -> Iterator[Trace]:
    known = known_fields(row, RESPONSE_FIELDS)
    trace = _trace(row, row["messages"], None, other_fields_of(row, known), **known)
    if not prompt_id(row):
        # several trajectories of one question are of one prompt, whatever the assistant tried
        asked = [message for message in as_messages(trace.prompt) if message["role"] in OPENING]
        trace = replace(trace, prompt_id=hash_prompt(asked or trace.prompt, trace.tools))
    yield trace


def _trace(
    row: Row, response: Any, prompt: Prompt | None, meta: Mapping[str, Any], **known: Any
) -> Trace:
    prompt, last = split_conversation(response, prompt)
    return Trace(
        prompt,
        content_text(last.get("content")),
        answer=row.get("answer"),
        prompt_id=prompt_id(row),
        meta=meta,
        **known,
        tools=tools_of(row),
        response_fields=other_fields(last),
    )


FORMATS = (
    (("prompt", "response"), _kdlight),
    (("problem", "generations"), open_r1),
    (("chosen", "rejected"), _preference),
    (("prompt", "completion"), _completion),
    (("messages",), _messages),
)
