"""Traces are encoded within limits, and the outcomes are counted."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.data.traces import Trace
from kdlight.data.traces.encode import EncodedTrace, Limits, encode
from tests.support import tiny_lm


@pytest.mark.parametrize(
    ("trace", "limits", "outcome", "length"),
    [
        (Trace("ab", "cdef"), {}, "kept", 5),
        (Trace("", "cdef"), {}, "empty prompt", 0),
        (Trace("ab", "", finished=False), {}, "empty response", 0),
        (Trace("ab", "cdef"), {"prompt": 1}, "prompt too long", 0),
        (Trace("ab", "cdef"), {"completion": 4}, "response too long", 0),
        (Trace("ab", "cdef"), {"length": 2}, "prompt too long", 0),
        (Trace("ab", "cdef"), {"length": 5}, "kept, cut at the end", 3),
        (Trace("ab", "cdef", score=0.0), {"length": 5}, "rejected and would be cut", 0),
        (Trace("ab", "cdef", score=0.0), {"length": 7}, "kept", 5),
    ],
)
def test_each_trace_has_one_outcome(trace: Trace, limits: Any, outcome: str, length: int) -> None:
    encoded, outcomes = encode(
        [trace], tiny_lm.tokenizer(), threshold=0.5, chat=False, limits=Limits(**limits)
    )
    assert outcomes == {outcome: 1}
    assert sum(len(each.completion) for each in encoded) == length
    assert all(each.rejected == (trace.score == 0.0) for each in encoded)


@pytest.mark.parametrize(("name", "least"), [("prompt", 1), ("completion", 1), ("length", 2)])
def test_a_limit_leaves_room_for_a_token(name: str, least: int) -> None:
    Limits(**{name: least})
    with pytest.raises(ValueError, match=f"max_{name} must be at least {least}"):
        Limits(**{name: least - 1})


def talk(*contents: str) -> list[dict[str, Any]]:
    roles = ("user", "assistant") * len(contents)
    return [{"role": role, "content": text} for role, text in zip(roles, contents, strict=False)]


@pytest.mark.parametrize(
    ("length", "outcome", "turns", "tokens"),
    [
        (None, "kept", ((0, 3), (5, 8)), 8),
        (10, "kept", ((0, 3), (5, 8)), 8),
        (9, "kept, cut at the end", ((0, 3), (5, 7)), 7),
        (8, "kept, cut at the end", ((0, 3), (5, 6)), 6),
        (7, "kept, cut at the end", ((0, 3),), 3),  # nothing behind a turn is scored
        (5, "kept, cut at the end", ((0, 3),), 3),
        (4, "kept, cut at the end", ((0, 2),), 2),
        (3, "kept, cut at the end", ((0, 1),), 1),
        (2, "prompt too long", (), 0),
    ],
)
def test_turns_are_cut_with_their_trace(
    length: int | None, outcome: str, turns: Any, tokens: int
) -> None:
    # as lines, the prompt "q" and the result "rs" have two tokens each, and the turns three
    trace = Trace(talk("q", "ab", "rs"), "cd")
    encoded, outcomes = encode(
        [trace],
        tiny_lm.tokenizer(),
        threshold=0.5,
        chat=False,
        limits=Limits(length=length),
        loss_on="assistant",
    )
    assert outcomes == {outcome: 1}
    assert [each.turns for each in encoded] == ([turns] if turns else [])
    assert sum(len(each.completion) for each in encoded) == tokens
    assert all(each.ended == (outcome == "kept") for each in encoded)


def test_the_loss_on_the_response_leaves_earlier_turns_in_the_prompt() -> None:
    trace, tokenizer = Trace(talk("q", "ab", "r"), "cd"), tiny_lm.tokenizer()
    options: Any = {"threshold": 0.5, "chat": False}
    for limit, kept in ((8, 1), (5, 0)):
        limits = Limits(prompt=limit)
        (response, _), (assistant, _) = (
            encode([trace], tokenizer, limits=limits, loss_on=on, **options)
            for on in ("response", "assistant")
        )
        assert len(response) == kept
        assert len(assistant) == 1
    whole = encode([trace], tokenizer, limits=Limits(), **options)[0][0]
    assert whole.turns is None
    assert whole.scored == ((0, 3),)
    assert EncodedTrace("p", [1], [], False).scored == ((0, 0),)


def test_an_error_of_a_template_names_the_prompt() -> None:
    tokenizer = tiny_lm.tokenizer(chat=True)
    tokenizer.chat_template = "{{ raise_exception('no') }}"
    for on in ("response", "assistant"):
        with pytest.raises(ValueError, match="a trace of prompt 'p7': the chat template refuses"):
            encode(
                [Trace("q", "a", prompt_id="p7")],
                tokenizer,
                threshold=0.5,
                chat=True,
                limits=Limits(),
                loss_on=on,
            )
