"""Reasoning and tool calls that are fields are written by the template, whole, or refused."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.data.traces import Trace
from kdlight.data.traces.chat import tokenize
from kdlight.data.traces.turn_fields import put_fields
from tests.data.traces import chat_templates as templates

CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
REASONED = {"reasoning_content": "one and\n two"}


def scored(template: str, response: str, fields: Any, **options: Any) -> tuple[str, str]:
    tokenizer = templates.tokenizer(template)
    trace = Trace("q", response, response_fields=fields, **options)
    prompt, completion = tokenize(trace, tokenizer, chat=True)
    return tokenizer.decode(prompt), tokenizer.decode(completion)


@pytest.mark.parametrize("response", ["3", " 3 \n", "3\n\n4", ""])
@pytest.mark.parametrize("finished", [None, False])
def test_reasoning_is_written_as_the_template_does(response: str, finished: Any) -> None:
    prompt, text = scored(templates.QWEN, response, REASONED, finished=finished)
    assert prompt == "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
    end = "" if finished is False else "<|im_end|>"
    assert text == f"<think>\none and\n two\n</think>\n\n{response}{end}"


def test_the_prompt_may_open_the_reasoning() -> None:
    template = (
        "{% for m in messages %}{{ m.role }}:{% if m.reasoning_content %}<think>\n"
        "{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}<end>{% endfor %}"
        "{% if add_generation_prompt %}assistant:<think>\n{% endif %}"
    )
    prompt, text = scored(template, "3", REASONED)
    assert prompt == "user:q<end>assistant:<think>\n"
    assert text == "one and\n two</think>3<end>"


@pytest.mark.parametrize(
    ("template", "response", "text"),
    [
        (
            templates.QWEN,
            "I add.",
            '<think>\n\n</think>\n\nI add.\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n'
            "</tool_call><|im_end|>",
        ),
        (templates.LLAMA, "", '{"name": "add", "parameters": {"a": 1}}<|eom|>'),
        (templates.TEXT_ARGUMENTS, "", '[add {"a": 1}]<end>'),
    ],
    ids=["qwen", "llama", "text"],
)
def test_tool_calls_are_scored_with_the_end_of_their_turn(
    template: str, response: str, text: str
) -> None:
    assert scored(template, response, {"tool_calls": [CALL]})[1] == text


@pytest.mark.parametrize(
    ("template", "response", "fields", "lost"),
    [
        (templates.CHATML, "3", REASONED, "reasoning_content of the response"),
        (templates.LLAMA, "3", {"thinking": "one"}, "thinking of the response"),
        (templates.MISTRAL, "3", {"tool_calls": [CALL]}, "tool calls of message 2"),
        # Llama writes a call without the content beside it
        (templates.LLAMA, "I add.", {"tool_calls": [CALL]}, "content of the response"),
    ],
    ids=range(4),
)
def test_a_template_that_drops_a_field_is_refused(
    template: str, response: str, fields: Any, lost: str
) -> None:
    with pytest.raises(ValueError, match=f"does not write the {lost}"):
        scored(template, response, fields)


def test_without_a_template_fields_are_refused() -> None:
    tokenizer = templates.tokenizer(templates.QWEN)
    for fields, name in ((REASONED, "reasoning_content"), ({"tool_calls": [CALL]}, "tool_calls")):
        with pytest.raises(ValueError, match=f"only a chat template can write {name}"):
            tokenize(Trace("q", "3", response_fields=fields), tokenizer, chat=False)
    with pytest.raises(ValueError, match="only a chat template can write tools"):
        tokenize(Trace("q", "3", tools=[{"name": "add"}]), tokenizer, chat=False)


def test_other_fields_change_nothing() -> None:
    for template in (templates.CHATML, templates.R1):
        text = "<think>a</think> b "
        plain = scored(template, text, {})
        assert scored(template, text, {"name": "n", "weight": 1, "tool_calls": []}) == plain
        assert text in plain[1]


def test_two_fields_may_hold_the_same_reasoning() -> None:
    message = {"content": "so 2", "reasoning": "one", "reasoning_content": "one"}
    assert put_fields("(one)so 2", message) == "(one)so 2"
    with pytest.raises(ValueError, match="does not write the content of the response"):
        put_fields("so 2(one)", message)  # the content stands before its reasoning


def test_a_call_may_stand_in_the_place_of_the_mark_that_opens_reasoning() -> None:
    template = (
        "{% for m in messages %}{{ m.role }}:{{ m.content }}{% for c in m.tool_calls or [] %}"
        "<tool>{{ c.function.name }} {{ c.function.arguments | tojson }}</tool>{% endfor %}<end>"
        "{% endfor %}{% if add_generation_prompt %}assistant:<think>\n{% endif %}"
    )
    prompt, text = scored(template, "", {"tool_calls": [CALL]})
    assert prompt == "user:q<end>assistant:"
    assert text == '<tool>add {"a": 1}</tool><end>'
