"""Prompt, response and tools of the rows of datasets that hold conversations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kdlight.data.traces.message_checks import check_messages, check_prompt
from kdlight.data.traces.messages import Message, Prompt, as_messages, plain_messages

OPENING = ("system", "developer", "user")
"""Roles of the messages that open a conversation."""


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
            turns of a conversation that follow the prompt.
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
    before = as_messages(prompt) if isinstance(prompt, str) else plain_messages(prompt)
    if before[-1] in context or (isinstance(prompt, str) and context[0]["role"] in OPENING):
        return context, last
    if context[0]["role"] in OPENING and before[-1]["role"] not in ("system", "developer"):
        raise ValueError(
            "a row has a prompt and a conversation that does not contain it; remove one of them"
        )
    return [*before, *context], last
