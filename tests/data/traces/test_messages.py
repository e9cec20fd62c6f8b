"""Texts of messages, their fields, and prefixes of prompts."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.data.traces.messages import (
    as_messages,
    calls_of,
    content_text,
    other_fields,
    plain_fields,
    plain_messages,
    prefix_content,
    with_prefix,
    written_fields,
)

USER = {"role": "user", "content": "q"}
CALL = {"id": "1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
PARTS = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]


def test_messages_without_a_template_are_those_of_a_user() -> None:
    assert as_messages("q") == [USER]
    assert as_messages([USER]) == [USER]
    assert as_messages("") == [{"role": "user", "content": ""}]


@pytest.mark.parametrize(
    ("content", "text"), [("a", "a"), (None, ""), (PARTS, "ab"), ([], "")], ids=range(4)
)
def test_the_text_of_a_content(content: Any, text: str) -> None:
    assert content_text(content) == text
    assert content_text(prefix_content(content, "[x] ")) == f"[x] {text}"


def test_a_prefix_of_parts_leaves_the_other_parts_as_they_are() -> None:
    first, second = prefix_content(PARTS, "[x] ")
    assert (first["text"], second) == ("[x] a", PARTS[1])
    assert PARTS[0]["text"] == "a"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("q", "[x] q"),
        ([USER], [{**USER, "content": "[x] q"}]),
        (  # the question, not the last result of a tool
            [USER, {"role": "tool", "content": "3"}],
            [{**USER, "content": "[x] q"}, {"role": "tool", "content": "3"}],
        ),
        (
            [{"role": "system", "content": "s", "name": "n"}],
            [{"role": "system", "content": "[x] s", "name": "n"}],
        ),
        ([{**USER, "content": PARTS[:1]}], [{**USER, "content": [{**PARTS[0], "text": "[x] a"}]}]),
    ],
    ids=range(5),
)
def test_a_prefix_stands_before_the_question(prompt: Any, expected: Any) -> None:
    assert with_prefix(prompt, "[x] ") == expected


def test_fields_beside_role_and_content() -> None:
    message = {**USER, "tool_calls": [CALL], "reasoning": "", "name": "n"}
    assert other_fields(message) == {"tool_calls": [CALL], "reasoning": "", "name": "n"}
    assert written_fields(message) == ["tool_calls"]
    assert calls_of(message) == [("add", {"a": 1})]
    assert calls_of({**USER, "tool_calls": [{"name": "stop"}]}) == [("stop", None)]
    assert calls_of(USER) == []


def test_a_field_that_is_none_is_absent_but_for_content_and_arguments() -> None:
    row = {
        "role": "assistant",
        "content": None,
        "name": None,
        "tool_calls": ({**CALL, "id": None, "function": {"name": "f", "arguments": {"a": None}}},),
    }
    assert plain_messages([row]) == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"type": "function", "function": {"name": "f", "arguments": {"a": None}}}
            ],
        }
    ]
    parts = ({"type": "text", "text": "a", "image_url": None},)
    assert plain_messages([{**USER, "content": parts}]) == [{**USER, "content": PARTS[:1]}]
    assert plain_fields({"tool_calls": [], "name": None}) == {"tool_calls": []}
