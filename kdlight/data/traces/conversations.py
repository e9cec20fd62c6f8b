"""Prompt, response and tools of the rows of datasets that hold conversations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kdlight.data.traces.message_checks import check_messages, check_prompt
from kdlight.data.traces.messages import (
    Message,
    Prompt,
    as_messages,
    content_text,
    plain_messages,
)

OPENING = ("system", "developer", "user")
"""Roles of the messages that open a conversation."""

INSTRUCTING = ("system", "developer")

NOT_OF_PROMPT = (
    "a row has a prompt and a conversation that does not contain it: a prompt of messages must be"
    " the begin of the conversation, and a text one of its messages of the user; remove one of them"
)


def tools_of(row: Mapping[str, Any]) -> Any:
    """Return the tools of a row, from a list or from a text of JSON; None if there are none.

    Raises:
        ValueError: If the text is not JSON.

    Example:
        >>> tools_of({"tools": '[{"name": "add"}]'})
        [{'name': 'add'}]
    """
    tools = row.get("tools")
    if not isinstance(tools, str) or not tools:
        return tools or None
    try:
        return json.loads(tools)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"tools is a text that is not JSON: {error}") from error


def split_conversation(response: Any, prompt: Prompt | None) -> tuple[Prompt, Message]:
    """Return the prompt, and the message of the response, of a row of a dataset.

    Args:
        response: a text, the message of the response, a conversation that ends with it, or the
            turns of a conversation that follow the prompt. A conversation that begins with the
            prompt, or with the prompt but its system messages, is a whole one; system messages of
            the prompt are kept.
        prompt: a prompt, if the row has one.

    Raises:
        TypeError: If a field of a message is of another kind.
        ValueError: If there is no prompt or no response, or the conversation is of another prompt.

    Example:
        >>> said = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
        >>> split_conversation(said, None)[0]
        [{'role': 'user', 'content': 'hi'}]
    """
    if isinstance(response, str):
        if prompt is None:
            raise ValueError("a row has a response but no prompt; add a field `prompt`")
        return prompt, {"content": response}
    check_messages("the response", response)
    *context, last = plain_messages(response)
    if last["role"] != "assistant":
        raise ValueError("a conversation does not end with a message of the assistant")
    if context and context[-1]["role"] == "assistant":
        raise ValueError(
            "a conversation ends with two messages of the assistant; join them, since a response"
            " continues a message of the assistant that stands before it"
        )
    if not context and not prompt:
        raise ValueError("a row has a response but no prompt; add a field `prompt`")
    if not prompt:
        return context, last
    check_prompt(prompt)
    if not context:
        return prompt, last
    return _joined(prompt, context), last


def _joined(prompt: Prompt, context: list[Message]) -> list[Message]:
    """Return a prompt and the messages before the response as one conversation.

    The messages are the whole conversation, which then has the prompt, or they follow the prompt.
    """
    before = as_messages(prompt) if isinstance(prompt, str) else plain_messages(prompt)
    if context[0]["role"] in OPENING and isinstance(prompt, str):
        asked = [content_text(each.get("content")) for each in context if each["role"] == "user"]
        if prompt.strip() in map(str.strip, asked):
            return context
        raise ValueError(NOT_OF_PROMPT)
    first, said = _same_form(before), _same_form(context)
    if said[: len(first)] == first:
        return context
    asked, told = _without_instructions(first), _without_instructions(said)
    if told[: len(asked)] == asked:  # the same conversation, if instructions agree
        instructions = [each for each in first if each not in asked]
        if all(each in said for each in instructions):
            return context
        if len(told) == len(said) and first[: len(instructions)] == instructions:
            return [*before[: len(instructions)], *context]
        raise ValueError(
            "a row has a prompt and a conversation with different system messages; remove one of"
            " them"
        )
    if context[0]["role"] in OPENING:
        raise ValueError(NOT_OF_PROMPT)
    return [*before, *context]


def _without_instructions(messages: list[Message]) -> list[Message]:
    return [each for each in messages if each["role"] not in INSTRUCTING]


def _same_form(messages: list[Message]) -> list[Message]:
    """Return messages whose content is a text, also where it was parts of text."""
    return [{**each, "content": content_text(each.get("content"))} for each in messages]
