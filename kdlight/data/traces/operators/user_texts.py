"""Texts that the function of a user writes, and traces with such a text as their response."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from tqdm import tqdm

from kdlight.checks import check_type
from kdlight.data.traces.functions import find_function
from kdlight.data.traces.messages import REASONING
from kdlight.data.traces.operators.selection import Selection
from kdlight.data.traces.prompt_groups import in_order
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.trace_checks import check_text
from kdlight.data.traces.verification.verifiers import Verifier, find_verifier
from kdlight.data.traces.verification.verify import verify_traces

TextFunction = Callable[..., "str | None"]


def find_text_function(name: str, value: str | TextFunction, *, does: str) -> TextFunction:
    """Return the function that an argument names, or is.

    Args:
        name: name of the argument.
        value: the function, ``module:function`` or ``file.py:function``.
        does: what it maps to what, for the message.

    Raises:
        TypeError: If it is neither a function nor a text.
        ValueError: If there is no such function.

    Example:
        >>> find_text_function("fn", "textwrap:dedent", does="from a text to a text")(" 1")
        '1'
    """
    check_type(name, value, (str, Callable), "a function, or its name as module:function")
    return find_function(value, {}, what=f"function {name}", does=does)


def find_verify(value: str | Verifier) -> Verifier:
    """Return the verifier that the argument ``verify`` names, or is.

    Raises:
        TypeError: If it is neither a function nor a text.
        ValueError: If there is no such verifier.

    Example:
        >>> find_verify("exact")(Trace("1 + 1 =", "2", answer="2"))
        True
    """
    check_type("verify", value, (str, Callable), "a verifier, or its name")
    return find_verifier(value)


def text_of(name: str, function: TextFunction, trace: Trace, *arguments: Any) -> str:
    """Return what the function of a user writes for a trace, an empty text for None.

    Raises:
        ValueError: If the function fails, or returns anything but a text or None.

    Example:
        >>> text_of("fn", lambda trace: trace.response.strip(), Trace("1 + 1 =", " 2 "))
        '2'
    """
    place = f"on a trace of prompt {trace.prompt_id!r}"
    try:
        text = function(trace, *arguments)
    except Exception as error:  # the function of a user can fail in any way
        raise ValueError(f"{name} failed {place}: {type(error).__name__}: {error}") from error
    if text is None:
        return ""
    try:
        check_text(name, text)
    except (TypeError, ValueError) as error:
        raise ValueError(f"what {name} returned {place} is no response: {error}") from error
    return text


def check_whole(operator: str, trace: Trace) -> None:
    """Raise an error for a response that is not all in its text.

    Raises:
        ValueError: If it has fields with reasoning or tool calls.

    Example:
        >>> check_whole("rewrite", Trace("1 + 1 =", "2", response_fields={"reasoning": "One."}))
        Traceback (most recent call last):
        ValueError: rewrite needs responses that are texts, but one to prompt ... has reasoning...
    """
    others = [name for name in (*REASONING, "tool_calls") if trace.response_fields.get(name)]
    if others:
        raise ValueError(
            f"{operator} needs responses that are texts, but one to prompt {trace.prompt_id!r} has"
            f" {others[0]} beside its text; write it into `response`, or leave such traces out"
        )


def with_response(trace: Trace, response: str) -> Trace:
    """Return a trace with another response, whose tokens and perplexity are not known yet.

    The score and whether the response is finished stay.

    Example:
        >>> with_response(Trace("1 + 1 =", "It is 2", n_tokens=3), "2").n_tokens is None
        True
    """
    return replace(trace, response=response, n_tokens=None, perplexity=None)


def revised(
    operator: str,
    traces: Iterable[Trace],
    revise: Callable[[Trace], tuple[Trace, str]],
    *,
    doing: str,
) -> Selection:
    """Return what became of each trace, with the number of each outcome as the notes.

    Args:
        operator: name of the operator, for messages.
        traces: traces, whose responses must be texts, see `check_whole`.
        revise: from a trace to what replaces it, itself where nothing does, and the outcome.
        doing: what is done, for the progress bar.

    Example:
        >>> one = Trace("1 + 1 =", "2")
        >>> revised("rewrite", [one], lambda t: (t, "kept"), doing="rewriting traces").notes
        ['kept: 1']
    """
    kept, outcomes = [], Counter[str]()
    for trace in tqdm(in_order(traces), desc=doing, delay=2):
        check_whole(operator, trace)
        new, outcome = revise(trace)
        kept.append(new)
        outcomes[outcome] += 1
    return Selection(in_order(kept), notes=counts(outcomes))


def counts(outcomes: Mapping[str, int]) -> list[str]:
    """Return the lines of a report that tell how often each outcome was found.

    Example:
        >>> counts({"rewritten": 2, "not rewritten": 0})
        ['rewritten: 2']
    """
    return [f"{outcome}: {count}" for outcome, count in sorted(outcomes.items()) if count]


def if_correct(trace: Trace, response: str, verify: Verifier, *, threshold: float) -> Trace | None:
    """Return a trace with another, complete response and its score; None if it is not correct.

    Raises:
        ValueError: If the verifier fails.

    Example:
        >>> trace = Trace("1 + 1 =", "It is 2", answer="2")
        >>> if_correct(trace, "2", find_verify("exact"), threshold=0.9).score
        1.0
        >>> if_correct(trace, "3", find_verify("exact"), threshold=0.9) is None
        True
    """
    changed = replace(with_response(trace, response), finished=True)
    correct, _, _ = verify_traces([changed], verify, threshold=threshold)
    return correct[0] if correct else None
