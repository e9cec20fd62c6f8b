"""Messages and tools are kept whole or refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.data.traces import Trace
from kdlight.data.traces.message_checks import (
    check_fields,
    check_json,
    check_messages,
    check_prompt,
    check_tools,
    tool_name,
)

USER = {"role": "user", "content": "q"}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
ASSISTANT = {"role": "assistant", "content": None}
KEPT: dict[str, dict[str, Any]] = {
    "reasoning": {**ASSISTANT, "content": "a", "reasoning_content": "r"},
    "calls without content": {**ASSISTANT, "tool_calls": [CALL]},
    "calls, content absent": {"role": "assistant", "tool_calls": [CALL]},
    "arguments as a text": {**ASSISTANT, "tool_calls": [{"name": "f", "arguments": '{"a": 1}'}]},
    "a result": {"role": "tool", "content": "3", "tool_call_id": "1", "name": "add"},
    "parts": {**USER, "content": [{"type": "text", "text": "a", "cache": {"x": [1, None]}}]},
    "no parts": {**USER, "content": []},
    "an unknown field": {**USER, "weight": 0.5, "of": {"é": ["\u2028"]}},
}
REFUSED: list[tuple[Any, str]] = [
    ({**USER, "content": [{"type": "image"}]}, "part 1 of message 2 is of the type 'image'"),
    ({**USER, "content": [{"text": "a"}]}, "part 1 of message 2 is of the type None"),
    ({**USER, "content": [{"type": "text"}]}, "part 1 of message 2: text must be a text, got None"),
    ({**USER, "content": ["a"]}, "part 1 of message 2 must be an object"),
    ({**USER, "content": {"type": "text", "text": "a"}}, "content of message 2 must be a text or"),
    ({**USER, "image": "x.png"}, "message 2 has the field 'image'; only text can be kept"),
    ({**ASSISTANT, "content": "", "function_call": {"name": "f"}}, "write it as `tool_calls`"),
    (ASSISTANT, "content of message 2 must be a text or a list of parts of text, got None"),
    ({**ASSISTANT, "tool_calls": []}, "content of message 2 must be a text"),
    ({"role": "assistant", "tool_calls": None}, "message 2 has no 'content'"),
    ({**USER, "reasoning_content": ["r"]}, "reasoning_content of message 2 must be a text"),
    ({**USER, "tool_call_id": 1}, "tool_call_id of message 2 must be a text, got 1"),
    ({**USER, "tool_calls": "f()"}, "tool_calls of message 2 must be a list of tool calls"),
    ({**USER, "tool_calls": ["f"]}, "tool_calls of message 2: call 1 must be an object"),
    ({**USER, "tool_calls": [{"function": "f"}]}, "call 1: function must be an object"),
    ({**USER, "tool_calls": [{"function": {}}]}, "call 1: name of the function must be a text"),
    ({**USER, "tool_calls": [{"name": ""}]}, "name of the function must be a text, got an empty"),
    ({**USER, "tool_calls": [{**CALL, "type": "custom"}]}, "call 1 is of the type 'custom'"),
    ({**USER, "tool_calls": [{"name": "f", "arguments": [1]}]}, "arguments must be an object or"),
    ({**USER, "weight": float("nan")}, "message 2 is not what JSON can represent"),
    ({**USER, "weight": {1: 2}}, "message 2 is not what JSON can represent"),
    ({**USER, "by": object()}, "message 2 is not what JSON can represent"),
    ({**USER, "by": "\ud800"}, "message 2 is not what JSON can represent"),
    ({**USER, "role": 5}, "role of message 2 must be a text"),
    ({1: 2}, r"message 2 has no 'role', its fields are \['1'\]"),
]


@pytest.mark.parametrize("message", KEPT.values(), ids=KEPT)
def test_a_message_that_is_kept_is_the_same_after_a_file(message: dict[str, Any]) -> None:
    import json

    check_messages("prompt", [USER, message])
    trace = Trace([USER, message], "a")
    read = Trace(**json.loads(trace.to_json()))
    assert read == trace
    assert trace.prompt == [USER, message]
    assert read.to_json() == trace.to_json()


@pytest.mark.parametrize(("message", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_a_message_that_cannot_be_kept_is_named(message: Any, reason: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"prompt: .*{reason}"):
        check_messages("prompt", [USER, message])
    with pytest.raises((TypeError, ValueError), match=f"prompt: .*{reason}"):
        check_prompt([USER, message])


def test_fields_of_a_response_are_checked_as_those_of_a_message() -> None:
    check_fields("response_fields", "the response", {"tool_calls": [CALL], "name": None})
    with pytest.raises(TypeError, match="response_fields: reasoning of the response must be"):
        check_fields("response_fields", "the response", {"reasoning": 1})


@pytest.mark.parametrize(
    ("tools", "reason"),
    [
        ({}, "tools must be a list of JSON schemas"),
        ([print], "tool 1 must be an object"),
        ([{"name": "a"}, {"function": {}}], "tool 2 has no 'name'"),
        ([{"name": "a", "x": {1}}], "tool 1 is not what JSON can represent"),
    ],
    ids=range(4),
)
def test_tools_that_are_no_schemas_are_named(tools: Any, reason: str) -> None:
    with pytest.raises((TypeError, ValueError), match=reason):
        check_tools("tools", tools)


def test_tools_have_names() -> None:
    tools = [{"name": "a"}, {"type": "function", "function": {"name": "b"}}]
    check_tools("tools", tools)
    assert [tool_name(tool) for tool in tools] == ["a", "b"]
    assert tool_name({"function": "a"}) is None


def test_a_deep_value_is_refused_and_not_a_crash() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="x is not what JSON can represent"):
        check_json("x", deep)
    check_json("x", {"a": (1, [None, True, 0.5])})
