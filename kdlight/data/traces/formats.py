"""Traces from the rows of common dataset formats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import takewhile
from typing import Any

from kdlight.checks import check_type
from kdlight.data.traces.conversations import split_conversation, tools_of
from kdlight.data.traces.messages import Prompt, as_messages, content_text, other_fields
from kdlight.data.traces.trace import FIELDS, Trace, hash_prompt
from kdlight.data.traces.trace_checks import check_number

Row = Mapping[str, Any]


def to_traces(row: Row) -> list[Trace]:
    """Return the traces in a row of a dataset, whose format is found by its fields.

    ===================================  ======================================================
    ``prompt``, ``response``             a trace of kdlight, see `Trace`
    ``problem``, ``generations``         Open-R1: correct if every verifier in ``correctness``
                                         (or in ``correctness_...``) accepts it
    ``chosen``, ``rejected``             a chosen and a rejected response, with ``prompt`` or
                                         with the whole conversation in each
    ``prompt``, ``completion``           one response; ``label`` is its score
    ``messages``                         a conversation that ends with the response, a message
                                         of the assistant
    ===================================  ======================================================

    A response is a text, or messages of which the last is the response. Messages keep their fields,
    such as ``tool_calls``; those of the response are its ``response_fields``. The prompt id is
    taken from ``prompt_id``, ``uuid`` or ``id``, and tools from ``tools``, a list or a text of
    JSON. Other fields of a row of ``messages`` are kept in ``meta``.

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
        if all(row.get(name) is not None for name in required):
            return list(read(row))
    known = "; ".join(" and ".join(required) for required, _ in FORMATS)
    raise ValueError(f"a row has fields {sorted(row)}, but a trace needs: {known}")


def prompt_id(row: Row) -> str:
    """Return the prompt id of a row, from ``prompt_id``, ``uuid`` or ``id``, or an empty string."""
    ids = (row[name] for name in ("prompt_id", "uuid", "id") if row.get(name) is not None)
    return str(next(ids, ""))


def _kdlight(row: Row) -> Iterator[Trace]:
    row = {**row, "tools": tools_of(row)}
    known = {name: value for name, value in row.items() if name in FIELDS and value is not None}
    check_type("meta", known.get("meta", {}), Mapping, "an object")
    meta = {name: value for name, value in row.items() if name not in FIELDS}
    meta |= known.get("meta", {})
    yield Trace(**{**known, "meta": meta, "prompt_id": prompt_id(row)})


def _open_r1(row: Row) -> Iterator[Trace]:
    if str(row.get("problem_is_valid", "yes")).lower() not in ("yes", "true"):
        return
    responses, verdicts = row["generations"], _verdicts(row)
    check_type("generations", responses, (list, tuple), "a list of responses")
    if any(len(each) != len(responses) for each in verdicts):
        return  # verdicts cannot be matched with responses
    complete = row.get("is_reasoning_complete") or [None] * len(responses)
    check_type("is_reasoning_complete", complete, (list, tuple), "a list")
    if len(complete) != len(responses):
        raise ValueError(
            f"is_reasoning_complete has {len(complete)} entries, but there are {len(responses)}"
            " generations"
        )
    for index, response in enumerate(responses):
        yield Trace(
            prompt=row["problem"],
            response=response,
            answer=row.get("answer"),
            score=float(all(each[index] for each in verdicts)) if verdicts else None,
            finished=complete[index],
            meta={"generation": index, "source": row.get("source")},
            prompt_id=prompt_id(row),
            tools=tools_of(row),
        )


def _verdicts(row: Row) -> list[list[bool]]:
    """Return, for each verifier, its verdict on every generation; no verdict is a wrong one."""
    lists = [
        (name, each)
        for name, value in row.items()
        if name.startswith("correctness")
        for each in (value.values() if isinstance(value, Mapping) else [value])
        if isinstance(each, (list, tuple))
    ]
    return [[verdict is not None and _verdict(name, verdict) for verdict in x] for name, x in lists]


def _verdict(name: str, value: Any) -> bool:
    check_number(f"a verdict in {name}", value)
    return bool(value)


def _preference(row: Row) -> Iterator[Trace]:
    chosen, rejected = (
        _trace(row, row[name], row.get("prompt"), score)
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
    yield _trace(row, row["completion"], row["prompt"], None if label is None else float(label))


def _messages(row: Row) -> Iterator[Trace]:
    check_type("meta", row.get("meta") or {}, Mapping, "an object")
    used = ("messages", "score", "answer", "tools", "meta", "prompt_id", "uuid", "id")
    meta = {name: value for name, value in row.items() if name not in used and value is not None}
    meta |= row.get("meta") or {}
    yield _trace(row, row["messages"], None, row.get("score"), meta)


def _trace(
    row: Row,
    response: Any,
    prompt: Prompt | None,
    score: float | None,
    meta: Mapping[str, Any] | None = None,
) -> Trace:
    prompt, last = split_conversation(response, prompt)
    return Trace(
        prompt,
        content_text(last.get("content")),
        score=score,
        answer=row.get("answer"),
        prompt_id=prompt_id(row),
        meta=meta or {},
        tools=tools_of(row),
        response_fields=other_fields(last),
    )


FORMATS = (
    (("prompt", "response"), _kdlight),
    (("problem", "generations"), _open_r1),
    (("chosen", "rejected"), _preference),
    (("prompt", "completion"), _completion),
    (("messages",), _messages),
)
