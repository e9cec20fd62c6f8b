"""The boundary between prompt and response is exact, with and without a chat template."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.data.traces import Trace
from kdlight.data.traces.chat import as_messages, prompt_ids, prompt_text, tokenize, uses_chat
from tests.data.traces import chat_templates
from tests.support import tiny_lm


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("finished", [None, False])
def test_the_boundary_is_exact_and_the_end_is_learned(chat: bool, finished: bool | None) -> None:
    tokenizer = tiny_lm.tokenizer(chat=chat)
    trace = Trace("ab", "cd", finished=finished)
    prompt, completion = tokenize(trace, tokenizer, chat=chat)
    before = "<|user|>ab<end>\n<|assistant|>" if chat else "ab"
    assert tokenizer.decode(prompt) == before
    assert tokenizer.decode(completion) == ("cd" if finished is False else "cd<end>")
    assert completion.count(tokenizer.eos_token_id) == (finished is None)


def test_a_template_that_rewrites_the_prompt_is_refused() -> None:
    tokenizer = tiny_lm.tokenizer(chat=True)
    tokenizer.chat_template = (
        "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    with pytest.raises(ValueError, match="does not append the response to the prompt"):
        tokenize(Trace("ab", "cd"), tokenizer, chat=True)


def test_a_template_is_used_by_default() -> None:
    plain, chat = tiny_lm.tokenizer(), tiny_lm.tokenizer(chat=True)
    assert [uses_chat(plain, None), uses_chat(chat, None), uses_chat(chat, False)] == [
        False,
        True,
        False,
    ]
    with pytest.raises(ValueError, match="the tokenizer has no chat template"):
        uses_chat(plain, True)


def test_messages_without_a_template_are_lines() -> None:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    assert prompt_text(messages, None, chat=False) == "be brief\nhi"
    assert as_messages("hi") == messages[1:]
    assert as_messages(messages) == messages


def test_marks_around_reasoning_that_are_special_tokens_are_one_token_each() -> None:
    tokenizer = tiny_lm.tokenizer(chat=True)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[THINK]", "[/THINK]"]})
    _, completion = tokenize(Trace("q", "[THINK]a[/THINK]b"), tokenizer, chat=True)
    assert len(completion) == 5
    assert tokenizer.decode(completion) == "[THINK]a[/THINK]b<end>"


ASKED: Any = {"role": "user", "content": "1 + 1 + 1 ="}
BEGUN: Any = [ASKED, {"role": "assistant", "content": "It is 2 + 1.\n"}]


@pytest.mark.parametrize("template", ["CHATML", "LLAMA", "MISTRAL", "QWEN"])
def test_a_response_continues_a_last_message_of_the_assistant(template: str) -> None:
    tokenizer = chat_templates.tokenizer(getattr(chat_templates, template))
    whole = tokenize(Trace([ASKED], "It is 2 + 1.\nThat is 3."), tokenizer, chat=True)
    tokens = tokenize(Trace(BEGUN, "That is 3."), tokenizer, chat=True)
    assert tokens.prompt + tokens.completion == whole.prompt + whole.completion
    assert tokenizer.decode(tokens.completion).startswith("That is 3.")
    assert tokens.prompt == prompt_ids(BEGUN, tokenizer, chat=True)


def test_without_a_template_it_is_continued_as_a_text_is() -> None:
    assert prompt_text(BEGUN, None, chat=False) == "1 + 1 + 1 =It is 2 + 1.\n"


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        (BEGUN[1:], "must have a message before that of the assistant"),
        (
            [ASKED, {**BEGUN[1], "reasoning_content": "One more."}],
            "needs a message of text only, but it has reasoning_content",
        ),
    ],
)
def test_what_cannot_be_continued_is_refused(messages: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prompt_text(messages, tiny_lm.tokenizer(chat=True), chat=True)
