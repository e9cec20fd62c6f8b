"""The chat template gets tools and calls in the form that it can write, or is refused."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.data.traces import Trace
from kdlight.data.traces.chat import prompt_text
from kdlight.data.traces.rendering import calls_are_in, render
from tests.data.traces import chat_templates as templates

TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
ASKED = [{"role": "user", "content": "q"}]


def called(arguments: Any, content: Any = None) -> list[dict[str, Any]]:
    call = {"type": "function", "id": "1", "function": {"name": "add", "arguments": arguments}}
    message = {"role": "assistant", "content": content, "tool_calls": [call]}
    return [*ASKED, message, {"role": "tool", "content": 'it is "3"'}]


@pytest.mark.parametrize("arguments", [{"a": 1}, '{"a": 1}', '{"a":1}'], ids=range(3))
@pytest.mark.parametrize("content", ["", None])
@pytest.mark.parametrize(
    ("template", "written"),
    [
        (templates.QWEN, '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'),
        (templates.LLAMA, '{"name": "add", "parameters": {"a": 1}}<|eom|>'),
    ],
    ids=["qwen", "llama"],
)
def test_arguments_are_written_once_as_an_object(
    arguments: Any, content: Any, template: str, written: str
) -> None:
    text = render(called(arguments, content), templates.tokenizer(template), prompt=True)
    assert text.count(written) == 1
    assert "None" not in text


@pytest.mark.parametrize("arguments", [{"a": 1}, '{"a": 1}'], ids=range(2))
def test_a_template_that_wants_a_text_gets_one(arguments: Any) -> None:
    text = render(called(arguments, ""), templates.tokenizer(templates.TEXT_ARGUMENTS))
    assert '[add {"a": 1}]<end>' in text


def test_arguments_that_are_not_json_are_written_as_they_are() -> None:
    text = render(called("{a: 1"), templates.tokenizer(templates.QWEN))
    assert '"arguments": {a: 1}\n</tool_call>' in text
    text = render(called(None), templates.tokenizer(templates.QWEN))
    assert '"arguments": {}}\n</tool_call>' in text


def test_tools_are_given_to_the_template() -> None:
    tokenizer = templates.tokenizer(templates.QWEN)
    assert '"name": "add"' in prompt_text("q", tokenizer, chat=True, tools=TOOLS)
    assert '"name": "add"' not in prompt_text("q", tokenizer, chat=True)


@pytest.mark.parametrize(
    ("template", "messages", "tools", "lost"),
    [
        (templates.CHATML, ASKED, TOOLS, "the tool 'add'"),
        (templates.CHATML, called({"a": 1}), None, "the tool calls of message 2"),
        (
            "{% for m in messages %}{% if m.role != 'tool' %}{{ m.content }}{{ m.tool_calls }}"
            "{% endif %}{% endfor %}",
            called({"a": 1}),
            None,
            "message 3, the result of a tool",
        ),
    ],
    ids=["tools", "calls", "results"],
)
def test_a_template_that_drops_a_part_is_refused(
    template: str, messages: Any, tools: Any, lost: str
) -> None:
    with pytest.raises(ValueError, match=f"the chat template does not write {lost}"):
        render(messages, templates.tokenizer(template), tools=tools)


def test_parts_of_text_are_written_as_one_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    tokenizer = templates.tokenizer(templates.CHATML)
    texts = [render([{"role": "user", "content": each}], tokenizer) for each in (parts, "ab")]
    assert texts[0] == texts[1]
    assert Trace([{"role": "user", "content": parts}], "c").prompt[0]["content"] == parts  # type: ignore[index]


def test_a_field_without_calls_is_not_given_to_a_template_that_asks_for_it() -> None:
    messages = [*ASKED, {"role": "assistant", "content": "a", "tool_calls": []}]
    assert render(messages, templates.tokenizer(templates.LLAMA)).endswith("a<|eot|>")


def test_an_error_of_python_in_a_template_is_one_clear_error() -> None:
    tokenizer = templates.tokenizer("{{ messages[0].content + 1 }}")
    with pytest.raises(ValueError, match="the chat template refuses messages of the roles user"):
        render(ASKED, tokenizer)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ('add {"a": "x\\"y", "b": [true, null, 2.5]}', True),
        ('add a=x"y b=True None 2.5', True),
        ('add {"a": "xy", "b": [true, null, 2.5]}', False),
        ('sub {"a": "x\\"y", "b": [true, null, 2.5]}', False),
        ('add {"a": "x\\"y", "b": [false, null, 2.5]}', False),
        ('add {"a": "x\\"y", "b": [true, null]}', False),
    ],
    ids=range(6),
)
def test_a_call_is_whole_with_its_name_and_all_arguments(text: str, whole: bool) -> None:
    call = {"function": {"name": "add", "arguments": {"a": 'x"y', "b": [True, None, 2.5]}}}
    assert calls_are_in(text, {"role": "assistant", "tool_calls": [call]}) == whole
