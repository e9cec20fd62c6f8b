"""Traces from rows in the format of Open-R1: a problem, several responses, verdicts on each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kdlight.checks import check_type
from kdlight.data.traces.conversations import tools_of
from kdlight.data.traces.row_fields import known_fields, other_fields_of, prompt_id
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.trace_checks import check_number


def open_r1(row: Mapping[str, Any]) -> Iterator[Trace]:
    """Yield the traces of a row with a problem and several generations.

    The score of a response is the least verdict of the verifiers; one without a verdict is wrong.

    Raises:
        TypeError: If a field is of another kind.
        ValueError: If a verdict is not finite, or the generations and what tells whether they are
            complete differ in number.

    Example:
        >>> row = {"problem": "1 + 1 =", "generations": ["2", "3"], "correctness": {"a": [1, 0]}}
        >>> [(trace.response, trace.score) for trace in open_r1(row)]
        [('2', 1.0), ('3', 0.0)]
    """
    if why_left_out(row):
        return
    responses, verdicts = row["generations"], _verdicts(row)
    complete = row.get("is_reasoning_complete") or [row.get("finished")] * len(responses)
    check_type("is_reasoning_complete", complete, (list, tuple), "a list")
    if len(complete) != len(responses):
        raise ValueError(
            f"is_reasoning_complete has {len(complete)} entries, but there are {len(responses)}"
            " generations"
        )
    known = known_fields(row, ("teacher", "difficulty"))
    used = ("problem", "generations", "is_reasoning_complete", "finished", *known)
    other = other_fields_of(row, (*used, *(name for name, _ in _verdict_lists(row))))
    for index, response in enumerate(responses):
        yield Trace(
            prompt=row["problem"],
            response=response,
            answer=row.get("answer"),
            score=min(each[index] for each in verdicts) if verdicts else None,
            finished=complete[index],
            meta={**other, "generation": index},
            prompt_id=prompt_id(row),
            tools=tools_of(row),
            **known,
        )


def why_left_out(row: Mapping[str, Any]) -> str:
    """Return why a row has no trace, or an empty text.

    Example:
        >>> why_left_out({"problem": "q", "generations": ["a"], "problem_is_valid": "No"})
        'a problem that is not valid'
    """
    responses = row["generations"]
    check_type("generations", responses, (list, tuple), "a list of responses")
    if str(row.get("problem_is_valid", "yes")).lower() not in ("yes", "true"):
        return "a problem that is not valid"
    if any(len(each) != len(responses) for _, each in _verdict_lists(row)):
        return "verdicts that do not match the responses"
    return "" if responses else "no responses"


def _verdicts(row: Mapping[str, Any]) -> list[list[float]]:
    """Return, for each verifier, its verdict on every generation; no verdict is a wrong one."""
    return [
        [0.0 if verdict is None else _verdict(name, verdict) for verdict in verdicts]
        for name, verdicts in _verdict_lists(row)
    ]


def _verdict_lists(row: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return name and verdicts of each verifier."""
    return [
        (name, each)
        for name, value in row.items()
        if name.startswith("correctness")
        for each in (value.values() if isinstance(value, Mapping) else [value])
        if isinstance(each, (list, tuple))
    ]


def _verdict(name: str, value: Any) -> float:
    check_number(f"a verdict in {name}", value)
    return float(value)
