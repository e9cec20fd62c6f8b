"""Functions of a user are found by name, and what they return is checked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kdlight.data.traces import Trace
from kdlight.data.traces.operators.user_texts import (
    check_whole,
    find_text_function,
    find_verify,
    if_correct,
    revised,
    text_of,
    with_response,
)
from tests.data.traces.operators.own_functions import shorten

TRACE = Trace("p", "response 1", prompt_id="p", n_tokens=2, perplexity=3.0, score=0.0, answer=1)


def test_a_function_is_found_by_name_or_is_one() -> None:
    name = "tests.data.traces.operators.own_functions:shorten"
    assert find_text_function("fn", name, does="") is shorten
    assert find_text_function("fn", shorten, does="") is shorten


@pytest.mark.parametrize("value", [None, 5, ["a:b"]], ids=range(3))
def test_what_is_no_function_is_named(value: Any) -> None:
    with pytest.raises(TypeError, match="fn must be a function, or its name"):
        find_text_function("fn", value, does="")
    with pytest.raises(TypeError, match="verify must be a verifier, or its name"):
        find_verify(value)


@pytest.mark.parametrize("name", ["shorten", "none.py:f", "math:pi", "no_module:f"])
def test_a_name_of_no_function_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"no function fn {name!r} .* as module:function"):
        find_text_function("fn", name, does="from a text to a text")
    with pytest.raises(ValueError, match=f"no verifier {name!r}"):
        find_verify(name)


@pytest.mark.parametrize(
    ("returned", "message"),
    [(5, "must be a text, got 5"), (b"a", "must be a text"), ("\ud800", "is not valid Unicode")],
    ids=range(3),
)
def test_what_is_no_text_is_named(returned: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"fn returned on a trace of prompt 'p' .*{message}"):
        text_of("fn", lambda trace: returned, TRACE)


def test_a_function_that_fails_is_named() -> None:
    with pytest.raises(ValueError, match="fn failed on a trace of prompt 'p': ZeroDivisionError"):
        text_of("fn", lambda trace: str(1 / 0), TRACE)
    assert text_of("fn", lambda trace: None, TRACE) == ""
    assert text_of("fn", lambda trace, start: start, TRACE, "ab") == "ab"


def test_a_new_response_has_no_tokens_of_the_old_one() -> None:
    changed = with_response(TRACE, "1")
    assert (changed.response, changed.n_tokens, changed.perplexity) == ("1", None, None)
    assert (changed.finished, changed.score, changed.prompt_id) == (None, 0.0, "p")
    verifier = find_verify("number")
    correct = if_correct(TRACE, "It is 1", verifier, threshold=0.9)
    assert correct is not None
    assert (correct.response, correct.score, correct.finished) == ("It is 1", 1.0, True)
    assert if_correct(TRACE, "It is 2", verifier, threshold=0.9) is None


@pytest.mark.parametrize("name", ["reasoning_content", "thinking", "tool_calls"])
def test_a_response_with_other_fields_is_no_text(name: str) -> None:
    calls = [{"type": "function", "function": {"name": "f", "arguments": {}}}]
    value: Any = calls if name == "tool_calls" else "One and one."
    with pytest.raises(ValueError, match=f"rewrite needs responses that are texts.*{name}"):
        check_whole("rewrite", Trace("p", "2", response_fields={name: value}))
    check_whole("rewrite", Trace("p", "2"))


def test_each_trace_is_revised_and_the_outcomes_are_counted() -> None:
    traces = [Trace(f"q{i}", "r", prompt_id=f"{i}") for i in range(4)]

    def revise(trace: Trace) -> tuple[Trace, str]:
        odd = int(trace.prompt_id) % 2
        return (replace(trace, response="new"), "changed") if odd else (trace, "kept")

    found = revised("rewrite", traces[::-1], revise, doing="rewriting traces")
    assert [trace.response for trace in found] == ["r", "new", "r", "new"]
    assert found.notes == ["changed: 2", "kept: 2"]
    fields = [replace(traces[0], response_fields={"reasoning": "One."})]
    with pytest.raises(ValueError, match="rewrite needs responses that are texts"):
        revised("rewrite", fields, revise, doing="rewriting traces")
