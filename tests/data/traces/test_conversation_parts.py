"""The text of a conversation in parts, by templates that keep earlier turns or change them."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from kdlight.data.traces import Trace
from kdlight.data.traces.chat import prompt_text
from kdlight.data.traces.conversation_parts import chat_parts, plain_parts
from kdlight.data.traces.messages import content_text
from kdlight.data.traces.rendering import render
from tests.data.traces import chat_templates as templates

TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
USER = {"role": "user", "content": "q"}


def said(text: str, role: str = "assistant", **fields: Any) -> dict[str, Any]:
    return {"role": role, "content": text, **fields}


def call(*values: int) -> list[dict[str, Any]]:
    function = {"name": "add", "arguments": {"values": list(values)}}
    return [{"type": "function", "id": "1", "function": function}]


TALK = [USER, said("first"), said("then?", "user"), said("second\n\nline"), said("and?", "user")]
CALLS = [
    USER,
    {"role": "assistant", "content": None, "tool_calls": call(1, 2)},
    said("3", "tool"),
    said("", tool_calls=call(3, 4)),
    said("7", "tool"),
]
REASONED = [
    USER,
    said("I add.", reasoning_content="one, two"),
    said("3", "tool"),
    said("<think>\nthree\n</think>\n\nAgain."),
    said("7", "tool"),
]
FOLLOWED = [USER, said("<think>\none\n</think>\n\nfirst"), said("then?", "user")]


def split(template: str, prompt: Any, response: str = "last", **options: Any) -> Any:
    trace = Trace(prompt, response, **options)
    numbers = [i for i, m in enumerate(prompt) if m["role"] == "assistant"]
    tokenizer = templates.tokenizer(template)
    return list(chat_parts(trace, list(prompt), numbers, tokenizer)), tokenizer, numbers


WHOLE: dict[str, tuple[str, Any, Any]] = {
    "chatml": (templates.CHATML, TALK, None),
    "llama": (templates.LLAMA, TALK, None),
    "llama, tools": (templates.LLAMA, CALLS, TOOLS),
    "mistral": (templates.MISTRAL, TALK, None),
    "qwen": (templates.QWEN, TALK, None),
    "qwen, tools": (templates.QWEN, CALLS, TOOLS),
    "qwen, reasoning after the question": (templates.QWEN, REASONED, None),
    "arguments as a text": (templates.TEXT_ARGUMENTS, CALLS, None),
}


@pytest.mark.parametrize(("template", "prompt", "tools"), WHOLE.values(), ids=WHOLE)
def test_the_text_before_each_turn_is_that_of_the_template(
    template: str, prompt: Any, tools: Any
) -> None:
    parts, tokenizer, numbers = split(template, prompt, tools=tools)
    assert [part.scored for part in parts] == [False, True] * (len(numbers) + 1)
    for turn, number in enumerate([*numbers, len(prompt)]):
        before = "".join(part.text for part in parts[: 2 * turn + 1])
        expected = render(prompt[:number], tokenizer, prompt=True, tools=tools)
        assert expected.startswith(before)
        # a space that opens the answer is what a model writes
        assert not expected[len(before) :].strip()
    whole = "".join(part.text for part in parts)
    conversation = render([*prompt, said("last")], tokenizer, tools=tools)
    assert conversation.startswith(whole)
    assert not conversation[len(whole) :].strip()


@pytest.mark.parametrize(("template", "prompt", "tools"), WHOLE.values(), ids=WHOLE)
def test_a_turn_has_its_content_whole_and_ends_as_the_template_ends_it(
    template: str, prompt: Any, tools: Any
) -> None:
    parts, _, numbers = split(template, prompt, tools=tools)
    for part, number in zip(parts[1::2], [*numbers, None], strict=True):
        message = said("last") if number is None else prompt[number]
        assert part.ended
        assert part.end in ("<|im_end|>", "<|eot|>", "<|eom|>", "<end>")
        assert part.text.endswith(part.end)
        assert part.text.count(part.end) == 1
        assert content_text(message["content"]) in part.text
        assert message.get("reasoning_content", "") in part.text
        assert ('"values": [' in part.text) == bool(message.get("tool_calls"))
    for part in parts[::2]:
        for message in prompt:
            if message["role"] == "assistant" and message["content"]:
                assert message["content"] not in part.text


@pytest.mark.parametrize("content", [" 7 8 \n", "\n 7", "7\t", "7"])
@pytest.mark.parametrize("template", [templates.LLAMA, templates.MISTRAL], ids=["llama", "mistral"])
def test_spaces_that_a_template_strips_are_put_back(template: str, content: str) -> None:
    parts, *_ = split(template, [USER, said(content), said("r", "user")], content)
    assert len(parts) == 4
    for part in parts[1::2]:
        assert part.text.removesuffix(part.end).endswith(content)
    assert "7" not in parts[2].text
    assert "r" in parts[2].text


@pytest.mark.parametrize("template", [templates.QWEN, templates.R1], ids=["qwen", "r1"])
def test_a_template_that_drops_the_reasoning_of_a_scored_turn_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match="changes message 2, a turn of the assistant"):
        split(template, FOLLOWED)


def test_reasoning_in_a_field_that_a_later_question_drops_is_refused() -> None:
    prompt = [USER, said("first", reasoning_content="one"), said("then?", "user")]
    with pytest.raises(ValueError, match="loss_on='response'"):
        split(templates.QWEN, prompt)


def test_a_template_that_rewrites_what_stands_before_a_turn_is_refused() -> None:
    count = "{{ messages | length }}"
    for rest in ("{% for m in messages %}{{ m.content }}<end>{% endfor %}", ""):
        with pytest.raises(ValueError, match="the chat template (changes|does not)"):
            split(count + rest, TALK)


def test_an_unfinished_response_has_no_end_but_earlier_turns_do() -> None:
    parts, *_ = split(templates.CHATML, TALK, finished=False)
    assert [part.text.endswith("<|im_end|>") for part in parts[1::2]] == [True, True, False]


def test_turns_that_follow_each_other_are_turns_each() -> None:
    parts, *_ = split(templates.CHATML, [USER, said("a"), said("b")], "c")
    assert [part.text for part in parts[1::2]] == [f"{each}<|im_end|>" for each in "abc"]


@pytest.mark.parametrize(
    "prompt", [TALK, [USER, said("a"), USER], [USER, said("a"), said("b"), USER], [USER]]
)
def test_lines_of_messages_are_the_text_of_the_prompt(prompt: Any) -> None:
    parts = list(plain_parts(prompt, "last"))
    assert "".join(part.text for part in parts[:-1]) == prompt_text(prompt, None, chat=False)
    turns = [part.text for part in parts if part.scored]
    assert [turn.removesuffix("\n") for turn in turns] == [
        *(message["content"] for message in prompt if message["role"] == "assistant"),
        "last",
    ]


TEXTS = [
    *("a", "b c", " ", "\n", "\t", "", "é", "\xa0", "\u2028", "assistant", "{{ x }}", "{% if %}"),
    *("<think>\nx\n</think>\n\n", "</think>", "<think>", "<", "[INST]", "kdlightProbe"),
    *("<|im_end|>", "<end>", "<|eot|>", "<|im_start|>assistant\n", "A:"),
]
FAMILIES = {
    "chatml": templates.CHATML,
    "llama": templates.LLAMA,
    "mistral": templates.MISTRAL,
    "qwen": templates.QWEN,
    "r1": templates.R1,
    "text": templates.TEXT_ARGUMENTS,
}


def random_prompt(random: Random) -> tuple[list[dict[str, Any]], str]:
    """Return messages of several turns, and a response, of texts that templates may change."""

    def text() -> str:
        return "".join(random.choice(TEXTS) for _ in range(random.randint(0, 3)))

    prompt = [said("q" + text(), "user")]
    for _ in range(random.randint(1, 3)):
        fields: dict[str, Any] = {}
        if random.random() < 0.15:
            fields["reasoning_content"] = text()
        if random.random() < 0.15:
            fields["tool_calls"] = call(1)
        prompt.append(said(text(), **fields))
        prompt.append(said("r" + text(), random.choice(["user", "user", "tool"])))
    return prompt, text()


@pytest.mark.parametrize("family", FAMILIES)
def test_whatever_a_turn_holds_it_is_whole_or_refused(family: str) -> None:
    random, whole = Random(family), 0
    for _ in range(80):
        prompt, response = random_prompt(random)
        try:
            parts, tokenizer, numbers = split(FAMILIES[family], prompt, response)
        except ValueError:
            continue
        whole += 1
        turns = [*(prompt[number] for number in numbers), said(response)]
        for part, message in zip(parts[1::2], turns, strict=True):
            assert message["content"] in part.text
            assert message.get("reasoning_content", "").strip() in part.text
            assert part.ended
        for turn, number in enumerate([*numbers, len(prompt)]):
            before = "".join(part.text for part in parts[: 2 * turn + 1])
            expected = render(prompt[:number], tokenizer, prompt=True)
            assert "".join(expected.split()).startswith("".join(before.split()))
    assert whole >= 10
