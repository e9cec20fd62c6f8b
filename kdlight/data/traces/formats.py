"""From the rows of common data sets to traces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kdlight.data.traces.record import NAMES, Message, Prompt, Trace

Row = Mapping[str, Any]


def to_traces(row: Row) -> list[Trace]:
    """The traces in a row of a data set, by the fields it has.

    ===================================  ======================================================
    ``prompt``, ``response``             one of ours, see `Trace`
    ``problem``, ``generations``         Open-R1: right where every verifier in ``correctness``
                                         (or in ``correctness_...``) says so
    ``chosen``, ``rejected``             a right and a wrong one, with ``prompt`` or with the
                                         whole conversation in each
    ``prompt``, ``completion``           one; ``label`` tells right from wrong
    ``messages``                         the last message, an assistant's, after the others
    ===================================  ======================================================

    A response is a text, or messages of which the last is the response. Ids are taken from
    ``prompt_id``, ``uuid`` or ``id``.

    Raises:
        ValueError: the row has none of these fields, or no response where it should be.

    Example:
        >>> row = {"prompt": "2 + 2 =", "chosen": "4", "rejected": "5"}
        >>> [(trace.response, trace.score) for trace in to_traces(row)]
        [('4', 1.0), ('5', 0.0)]
    """
    for needed, read in FORMATS:
        if all(row.get(name) is not None for name in needed):
            return list(read(row))
    known = "; ".join(" and ".join(needed) for needed, _ in FORMATS)
    raise ValueError(f"a row has fields {sorted(row)}, but a trace needs: {known}")


def _ours(row: Row) -> Iterator[Trace]:
    known = {name: value for name, value in row.items() if name in NAMES and value is not None}
    meta = {name: value for name, value in row.items() if name not in NAMES}
    yield Trace(**{**known, "meta": {**meta, **known.get("meta", {})}, **_ids(row)})


def _open_r1(row: Row) -> Iterator[Trace]:
    if str(row.get("problem_is_valid", "yes")).lower() != "yes":
        return
    responses, votes = row["generations"], _votes(row)
    if any(len(vote) != len(responses) for vote in votes):
        return  # it is not known which verdict is whose
    complete = row.get("is_reasoning_complete") or [None] * len(responses)
    for index, response in enumerate(responses):
        yield Trace(
            prompt=row["problem"],
            response=response,
            answer=row.get("answer"),
            score=float(all(vote[index] for vote in votes)) if votes else None,
            finished=complete[index],
            meta={"generation": index, "source": row.get("source")},
            **_ids(row),
        )


def _votes(row: Row) -> list[list[bool]]:
    """What each verifier says of every generation."""
    found = [value for name, value in row.items() if name.startswith("correctness")]
    lists = [
        each
        for value in found
        for each in (value.values() if isinstance(value, Mapping) else [value])
    ]
    return [list(each) for each in lists if isinstance(each, (list, tuple))]


def _preference(row: Row) -> Iterator[Trace]:
    for name, score in (("chosen", 1.0), ("rejected", 0.0)):
        prompt, response = _split(row[name], row.get("prompt"))
        yield Trace(prompt, response, score=score, answer=row.get("answer"), **_ids(row))


def _completion(row: Row) -> Iterator[Trace]:
    prompt, response = _split(row["completion"], row["prompt"])
    label = row.get("label")
    score = None if label is None else float(label)
    yield Trace(prompt, response, score=score, answer=row.get("answer"), **_ids(row))


def _messages(row: Row) -> Iterator[Trace]:
    prompt, response = _split(row["messages"], None)
    yield Trace(prompt, response, score=row.get("score"), answer=row.get("answer"), **_ids(row))


def _split(response: Any, prompt: Prompt | None) -> tuple[Prompt, str]:
    """A response that may hold its prompt, and a prompt that may stand beside it."""
    if isinstance(response, str):
        if prompt is None:
            raise ValueError("a row has a response and no prompt")
        return prompt, response
    messages: list[Message] = [{"role": m["role"], "content": m["content"]} for m in response]
    if not messages or messages[-1]["role"] != "assistant":
        raise ValueError("a conversation does not end with a message of the assistant")
    before = messages[:-1] or prompt
    if not before:
        raise ValueError("a row has a response and no prompt")
    return before, messages[-1]["content"]


def _ids(row: Row) -> dict[str, Any]:
    found = [row[name] for name in ("prompt_id", "uuid", "id") if row.get(name) is not None]
    return {"prompt_id": str(found[0])} if found else {}


FORMATS = (
    (("prompt", "response"), _ours),
    (("problem", "generations"), _open_r1),
    (("chosen", "rejected"), _preference),
    (("prompt", "completion"), _completion),
    (("messages",), _messages),
)
