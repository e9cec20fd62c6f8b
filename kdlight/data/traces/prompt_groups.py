"""Traces grouped by prompt: their order, their lengths, and which of them are correct."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby, takewhile

from kdlight.checks import check_finite
from kdlight.data.traces.messages import (
    Message,
    Prompt,
    as_messages,
    begun_turn,
    written_text,
)
from kdlight.data.traces.trace import Trace

CORRECT = 0.9
"""Default of ``threshold``: the smallest score of a correct trace."""


def in_order(traces: Iterable[Trace]) -> list[Trace]:
    """Return traces in an order that does not depend on the order of the input.

    They are sorted by prompt id, teacher and response, and equal ones by all that they hold.

    Example:
        >>> [trace.response for trace in in_order([Trace("a", "2"), Trace("a", "1")])]
        ['1', '2']
    """
    ordered: list[Trace] = []
    for _, equal in groupby(sorted(traces, key=_key), key=_key):
        group = list(equal)
        ordered += group if len(group) == 1 else sorted(group, key=Trace.to_json)
    return ordered


def _key(trace: Trace) -> tuple[str, str, str]:
    return trace.prompt_id, trace.teacher or "", trace.response


def group_by_prompt(traces: Iterable[Trace]) -> dict[str, list[Trace]]:
    """Return the traces of each prompt; prompts and traces are ordered as by `in_order`."""
    prompts: dict[str, list[Trace]] = defaultdict(list)
    for trace in in_order(traces):
        prompts[trace.prompt_id].append(trace)
    return dict(prompts)


def check_one_prompt(group: Sequence[Trace]) -> None:
    """Raise an error where traces of one prompt id answer different prompts.

    Their responses cannot be compared. The turns of the assistant in a conversation, and what
    follows them, may differ.

    Raises:
        ValueError: The messages before the first turn of the assistant, or the texts that the
            responses continue, are not the same.

    Example:
        >>> check_one_prompt([Trace("a", "1", prompt_id="x"), Trace("b", "2", prompt_id="x")])
        Traceback (most recent call last):
        ValueError: traces of the prompt id 'x' have different prompts, such as 'a' and 'b', so ...
    """
    first = group[0]
    for other in group[1:]:
        if other.prompt != first.prompt and _opening(other.prompt) != _opening(first.prompt):
            raise ValueError(
                f"traces of the prompt id {first.prompt_id!r} have different prompts, such as"
                f" {str(first.prompt)[-60:]!r} and {str(other.prompt)[-60:]!r}, so that their"
                " responses cannot be compared; give each prompt an id of its own, or select before"
                " operators that change prompts"
            )


def _opening(prompt: Prompt) -> tuple[list[Message], str]:
    messages, begun = begun_turn(prompt)
    return list(takewhile(lambda m: m["role"] != "assistant", as_messages(messages))), begun


def lengths(traces: Sequence[Trace]) -> list[int]:
    """Return the lengths of responses in tokens if all are known, else of all in characters.

    Reasoning and tool calls that are fields of a response count as well.

    Example:
        >>> lengths([Trace("a", "four", n_tokens=1), Trace("a", "seventeen")])
        [4, 9]
    """
    tokens = [trace.n_tokens for trace in traces if trace.n_tokens is not None]
    counted = len(tokens) == len(traces)
    if counted:
        return tokens
    return [len(written_text(trace.response, trace.response_fields)) for trace in traces]


def is_correct(trace: Trace, threshold: float = CORRECT) -> bool:
    """Return whether the score of a trace is at least ``threshold``.

    This decides everywhere what is chosen and what is rejected.

    Raises:
        ValueError: If the trace has no score, or the threshold is not finite.
    """
    check_finite("threshold", threshold)
    if trace.score is None:
        raise ValueError(
            f"a trace of prompt {trace.prompt_id!r} has no score; verify traces (kdlight traces"
            " verify) before you select them by correctness"
        )
    return trace.score >= threshold
