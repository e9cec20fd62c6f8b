"""Where a response stands in a conversation that a chat template writes, and how its turn ends."""

from __future__ import annotations

import re
from collections.abc import Mapping
from os.path import commonprefix
from typing import Any, NamedTuple

from kdlight.data.traces.messages import Message, written_fields
from kdlight.data.traces.rendering import Tools, render
from kdlight.data.traces.turn_end import special_tokens, turn_end
from kdlight.data.traces.turn_fields import put_fields

PROBE = "kdlightProbe"
"""A response that no template has a reason to change."""

MARK = re.compile(r"(?:<[^<>\s]+>|\[[^\[\]\s]+\])(?=\s*\Z)")
"""A mark at the end of a prompt, such as the one that opens the reasoning of a model."""


class Turn(NamedTuple):
    """The turn of an assistant.

    Attributes:
        prompt: the text that the model gets.
        text: the text that follows, which contains the response whole.
        ended: whether it ends with special tokens that the template writes at the end of a turn.
        end: the end of the turn, which is the end of ``text``.
    """

    prompt: str
    text: str
    ended: bool = False
    end: str = ""


def place_response(
    messages: list[Message],
    response: str,
    tokenizer: Any,
    *,
    finished: bool,
    fields: Mapping[str, Any] | None = None,
    tools: Tools = None,
) -> Turn:
    """Return the prompt and the turn of the assistant, in which the response stands unchanged.

    The text is that of the template if this has the response whole. Many templates do not: they
    drop reasoning, or strip spaces. The response then follows the prompt as it is, which is how a
    model writes it. If the prompt ends with a mark that opens the reasoning, and the response
    begins with it, the mark belongs to the response and is not repeated.

    Only a template knows how to write reasoning and tool calls that are fields. With such fields
    the text is always that of the template, and must have all of them. Other fields of a response,
    such as ``name``, are not written by a model.

    Args:
        messages: the messages before the response.
        response: the response.
        tokenizer: a Hugging Face tokenizer with a chat template.
        finished: whether the turn is complete, so that what the template writes at its end follows.
        fields: fields of the message of the response, such as ``reasoning_content``.
        tools: JSON schemas of the tools that the model can call.

    Raises:
        ValueError: If the template changes the messages with the response, does not write a
            response exactly once, or does not write one of its fields.
    """
    prompt = render(messages, tokenizer, prompt=True, tools=tools)
    mark = _opening_mark(prompt, render(messages, tokenizer, tools=tools))
    if fields and written_fields(fields):
        return _template_fields(
            messages, response, fields, prompt, mark, tokenizer, tools=tools, finished=finished
        )
    repeated = bool(mark) and response.lstrip().startswith(mark)
    turn = Turn(prompt[: prompt.rindex(mark)] if repeated else prompt, response)
    if not finished:
        return turn
    before, after = _around_response(messages, prompt, mark, tokenizer, tools)
    opening = prompt[len(before) :]  # what only a prompt has
    continues = bool(opening) and (not opening.strip() or f"{mark[0]}/{mark[1:]}" in response)
    if not repeated and not continues:
        text = _template_turn(messages, response, before, after, tokenizer, tools)
        if text is not None:
            turn = Turn(before, text)
    end, ended = turn_end(response, after, tokenizer)
    return Turn(turn.prompt, turn.text + end, ended, end)


def _opening_mark(prompt: str, without: str) -> str:
    """Return the mark with which the template ends a prompt, or an empty text."""
    found = MARK.search(prompt, len(commonprefix([prompt, without])))
    return found.group() if found else ""


def _around_response(
    messages: list[Message], prompt: str, mark: str, tokenizer: Any, tools: Tools
) -> tuple[str, str]:
    """Return what a prompt and a conversation with a response share, and the text after it."""
    conversation = render([*messages, _assistant(PROBE)], tokenizer, tools=tools)
    shared = _shared(prompt, conversation, mark)
    parts = conversation[len(shared) :].split(PROBE)
    if len(parts) != 2:
        raise ValueError(
            "the chat template does not write the response once and unchanged: for the response"
            f" {PROBE!r} it gives {conversation[len(shared) :][:60]!r}; set chat to False, or use"
            " another template"
        )
    return shared, parts[1]


def _shared(prompt: str, conversation: str, mark: str) -> str:
    """Return the start of a conversation that is its prompt, without a mark that only that has."""
    shared = commonprefix([prompt, conversation])
    opening = prompt.rindex(mark) if mark else len(prompt)
    if opening < len(shared) < opening + len(mark):  # another mark begins with the same sign
        shared = prompt[:opening]
    if prompt[len(shared) :].strip() not in ("", mark):
        raise ValueError(
            "the chat template does not append the response to the prompt: with a response it gives"
            f" {conversation[:60]!r}..., without it {prompt[:60]!r}...; set chat to False, or use"
            " prompts that are texts with the template applied"
        )
    return shared


def _template_turn(
    messages: list[Message], response: str, before: str, after: str, tokenizer: Any, tools: Tools
) -> str | None:
    """Return the turn as the template writes it, without its end; None if it is not whole."""
    try:
        conversation = render([*messages, _assistant(response)], tokenizer, tools=tools)
    except ValueError:  # such as a template that refuses marks inside of a response
        return None
    if not (conversation.startswith(before) and conversation.endswith(after)):
        return None
    turn = conversation[len(before) : len(conversation) - len(after)]
    if turn.endswith(response):
        return turn
    kept, stripped = response.strip(), turn.rstrip()
    if not kept or not stripped.endswith(kept):
        return None
    lead = stripped.removesuffix(kept)  # only spaces are missing, which are put back
    return (lead.rstrip() if response[0].isspace() else lead) + response


def _template_fields(
    messages: list[Message],
    response: str,
    fields: Mapping[str, Any],
    prompt: str,
    mark: str,
    tokenizer: Any,
    *,
    tools: Tools,
    finished: bool,
) -> Turn:
    """Return the turn of a response that has other fields, as the template writes it."""
    message = {**_assistant(response), **fields}
    conversation = render([*messages, message], tokenizer, tools=tools)
    shared = _shared(prompt, conversation, mark)
    written = conversation[len(shared) :]
    _, after = _around_response(messages, prompt, mark, tokenizer, tools)
    if not (after and written.endswith(after)):  # a turn of calls may end in another way
        found = re.search(rf"(?:{special_tokens(tokenizer) or '(?!)'})+\s*\Z", written)
        after = found.group() if found else ""
    text = put_fields(written.removesuffix(after), message)
    end, ended = turn_end("", after, tokenizer)
    return Turn(shared, text + end, ended, end) if finished else Turn(shared, text)


def _assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}
