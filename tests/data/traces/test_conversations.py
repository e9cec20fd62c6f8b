"""Prompt and response of rows that hold conversations."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.data.traces.conversations import split_conversation, tools_of

SYSTEM, USER, OTHER = (
    {"role": role, "content": text}
    for role, text in (("system", "s"), ("user", "q"), ("user", "p"))
)
CALL, RESULT, LAST = (
    {"role": role, "content": text}
    for role, text in (("assistant", "add"), ("tool", "3"), ("assistant", "it is 3"))
)


@pytest.mark.parametrize(
    ("response", "prompt", "expected"),
    [
        ("it is 3", "q", "q"),
        ([LAST], "q", "q"),
        ([LAST], [USER], [USER]),
        ([USER, LAST], None, [USER]),
        ([USER, CALL, RESULT, LAST], None, [USER, CALL, RESULT]),
        # the whole conversation, with its prompt
        ([USER, CALL, RESULT, LAST], [USER], [USER, CALL, RESULT]),
        ([SYSTEM, USER, LAST], "q", [SYSTEM, USER]),
        ([SYSTEM, USER, LAST], [USER], [SYSTEM, USER]),
        # turns that follow the prompt
        ([CALL, RESULT, LAST], [SYSTEM, USER], [SYSTEM, USER, CALL, RESULT]),
        ([CALL, RESULT, LAST], "q", [USER, CALL, RESULT]),
        ([USER, LAST], [SYSTEM], [SYSTEM, USER]),
    ],
    ids=range(11),
)
def test_nothing_of_a_prompt_is_lost(response: Any, prompt: Any, expected: Any) -> None:
    found, last = split_conversation(response, prompt)
    assert found == expected
    assert last["content"] == "it is 3"


@pytest.mark.parametrize(
    ("response", "prompt", "message"),
    [
        ([OTHER, LAST], [USER], "a prompt and a conversation that does not contain it"),
        ([LAST], None, "a response but no prompt"),
        ("a", None, "a response but no prompt"),
        ([USER], None, "does not end with a message of the assistant"),
        ([LAST], [{"role": "user"}], "prompt: message 1 has no 'content'"),
        ([LAST], 5, "prompt must be a text or a list of messages"),
    ],
    ids=range(6),
)
def test_a_row_that_does_not_fit_is_named(response: Any, prompt: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        split_conversation(response, prompt)


def test_tools_are_a_list_or_a_text_of_json() -> None:
    tools = [{"name": "add"}]
    assert tools_of({"tools": tools}) == tools_of({"tools": '[{"name": "add"}]'}) == tools
    assert [tools_of(row) for row in ({}, {"tools": None}, {"tools": []}, {"tools": ""})] == (
        [None] * 4
    )
    with pytest.raises(ValueError, match="tools is a text that is not JSON"):
        tools_of({"tools": "add"})


def test_two_turns_of_the_assistant_are_no_single_one() -> None:
    said = [{"role": "assistant", "content": text} for text in ("One", "Two")]
    with pytest.raises(ValueError, match="ends with two messages of the assistant; join them"):
        split_conversation([{"role": "user", "content": "q"}, *said], None)
    # the form for a response that was begun
    begun = [{"role": "user", "content": "q"}, said[0]]
    assert split_conversation(" and two", begun)[0] == begun


ON, ONE, TWO = (
    {"role": role, "content": text}
    for role, text in (("user", "go on"), ("assistant", "one"), ("assistant", "two"))
)
PARTS = {"role": "user", "content": [{"type": "text", "text": "q"}]}
DEVELOPER = {"role": "developer", "content": "d"}


@pytest.mark.parametrize(
    ("response", "prompt", "expected"),
    [
        # a later message that equals the prompt does not make it a whole conversation
        ([ONE, ON, TWO], [ON], [ON, ONE, ON]),
        ([ONE, ON, TWO], "go on", [ON, ONE, ON]),
        ([USER, ONE, ON, TWO], "go on", [USER, ONE, ON]),
        # system messages of the prompt are kept
        ([USER, TWO], [SYSTEM, USER], [SYSTEM, USER]),
        ([USER, ONE, ON, TWO], [SYSTEM, DEVELOPER, USER], [SYSTEM, DEVELOPER, USER, ONE, ON]),
        ([SYSTEM, USER, TWO], [SYSTEM], [SYSTEM, USER]),
        ([SYSTEM, USER, ONE, ON, TWO], [SYSTEM, USER, ONE, ON], [SYSTEM, USER, ONE, ON]),
        ([PARTS, TWO], [USER], [PARTS]),
        ([PARTS, TWO], "q", [PARTS]),
    ],
    ids=range(9),
)
def test_the_start_of_a_prompt_is_kept(response: Any, prompt: Any, expected: Any) -> None:
    assert split_conversation(response, prompt)[0] == expected


@pytest.mark.parametrize(
    ("response", "prompt", "message"),
    [
        ([OTHER, TWO], "q", "a prompt and a conversation that does not contain it"),
        ([SYSTEM, TWO], "q", "a prompt and a conversation that does not contain it"),
        ([ON, TWO], [USER, ONE, ON], "a prompt and a conversation that does not contain it"),
        ([DEVELOPER, USER, TWO], [SYSTEM, USER], "with different system messages"),
    ],
    ids=range(4),
)
def test_a_prompt_is_not_thrown_away(response: Any, prompt: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_conversation(response, prompt)
