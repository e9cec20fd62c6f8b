"""Messages of a conversation: their text, their other fields, and a prefix for a prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Message: TypeAlias = "dict[str, Any]"
Prompt: TypeAlias = "str | list[Message]"

REASONING = ("reasoning_content", "reasoning", "thinking")
"""Fields of a message that hold the reasoning before its content; chat templates read one."""


def as_messages(prompt: Prompt) -> list[Message]:
    """Return a prompt as messages; a text becomes the message of a user.

    Example:
        >>> as_messages("hello")
        [{'role': 'user', 'content': 'hello'}]
    """
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)


def content_text(content: Any) -> str:
    """Return the text of the content of a message: a text, parts of text, or None.

    Example:
        >>> content_text([{"type": "text", "text": "1 + "}, {"type": "text", "text": "1"}])
        '1 + 1'
    """
    if content is None:
        return ""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def other_fields(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a message holds beside its role and its content.

    Example:
        >>> other_fields({"role": "assistant", "content": "2", "reasoning_content": "1 + 1"})
        {'reasoning_content': '1 + 1'}
    """
    return {name: value for name, value in message.items() if name not in ("role", "content")}


def written_fields(fields: Mapping[str, Any]) -> list[str]:
    """Return which fields a model writes beside the content: reasoning and tool calls.

    Example:
        >>> written_fields({"role": "assistant", "reasoning_content": "1 + 1", "tool_calls": []})
        ['reasoning_content']
    """
    return [name for name in (*REASONING, "tool_calls") if fields.get(name)]


def calls_of(message: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return names and arguments of the tool calls of a message.

    Example:
        >>> call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
        >>> calls_of({"role": "assistant", "tool_calls": [call]})
        [('add', {'a': 1})]
    """
    functions = [call.get("function", call) for call in message.get("tool_calls") or ()]
    return [(function["name"], function.get("arguments")) for function in functions]


def begun_turn(prompt: Prompt) -> tuple[Prompt, str]:
    """Return a prompt without a last message of the assistant, and the text of that message.

    A response continues such a message, as it continues a prompt that is a text.

    Raises:
        ValueError: If the message is the only one, or has fields beside its text.

    Example:
        >>> question = {"role": "user", "content": "1 + 1 + 1 ="}
        >>> begun_turn([question, {"role": "assistant", "content": "2 + 1"}])[1]
        '2 + 1'
    """
    if isinstance(prompt, str) or prompt[-1]["role"] != "assistant":
        return prompt, ""
    *before, last = prompt
    if not before:
        raise ValueError("a prompt must have a message before that of the assistant")
    fields = written_fields(other_fields(last))
    if fields:
        raise ValueError(
            "a response continues the last message of the prompt, which is of the assistant; this"
            f" needs a message of text only, but it has {', '.join(fields)}"
        )
    return before, content_text(last.get("content"))


def written_text(content: str, fields: Mapping[str, Any]) -> str:
    r"""Return all that a model writes in a turn: reasoning, content, and tool calls as JSON.

    Example:
        >>> written_text("It is 2.", {"reasoning_content": "1 + 1"})
        '1 + 1\nIt is 2.'
    """
    found = {name: fields[name] for name in written_fields(fields)}
    calls = found.pop("tool_calls", None)
    texts = [str(value) for value in found.values()] + [content]
    return "\n".join(texts if calls is None else [*texts, json.dumps(calls, ensure_ascii=False)])


def with_prefix(prompt: Prompt, prefix: str) -> Prompt:
    """Return a prompt whose text, or whose last message of the user, begins with a prefix.

    Without a message of the user, it is the last message. A prompt of content parts stays one.

    Example:
        >>> with_prefix("1 + 1 =", "[short] ")
        '[short] 1 + 1 ='
        >>> with_prefix([{"role": "user", "content": "hi"}], "[short] ")
        [{'role': 'user', 'content': '[short] hi'}]
    """
    if isinstance(prompt, str):
        return prefix + prompt
    users = [i for i, message in enumerate(prompt) if message["role"] == "user"]
    chosen = users[-1] if users else len(prompt) - 1
    return [
        {**message, "content": prefix_content(message.get("content"), prefix)}
        if i == chosen
        else message
        for i, message in enumerate(prompt)
    ]


def prefix_content(content: Any, prefix: str) -> Any:
    """Return the content of a message with a prefix: a text, or parts of text.

    Example:
        >>> prefix_content([{"type": "text", "text": "hi"}], "[short] ")
        [{'type': 'text', 'text': '[short] hi'}]
    """
    if content is None or isinstance(content, str):
        return prefix + (content or "")
    first, *others = content or [{"type": "text", "text": ""}]
    return [{**first, "text": prefix + first["text"]}, *others]


def plain_messages(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Return messages as lists and dicts, as they are read back from JSON.

    A field that is None is absent: a dataset of a columnar format has the fields of all messages in
    each. Arguments of tool calls are kept as they are, since None may be one.

    Example:
        >>> plain_messages(({"role": "user", "content": "hi", "tool_calls": None},))
        [{'role': 'user', 'content': 'hi'}]
    """
    return [_plain_message(message) for message in messages]


def plain_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a message as `plain_messages` does."""
    known = _without_none(fields)
    if known.get("tool_calls"):
        known["tool_calls"] = [_plain_call(call) for call in known["tool_calls"]]
    return {name: plain(value) for name, value in known.items()}


def plain(value: Any) -> Any:
    """Return a value with lists for sequences and dicts for mappings."""
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _plain_message(message: Mapping[str, Any]) -> Message:
    known = plain_fields(message)
    if "content" in message and message["content"] is None:
        known = {"role": known.pop("role"), "content": None, **known}
    elif isinstance(known.get("content"), list):
        known["content"] = [_without_none(part) for part in known["content"]]
    return known


def _plain_call(call: Mapping[str, Any]) -> dict[str, Any]:
    known = _without_none(call)
    if "function" in known:
        known["function"] = _without_none(known["function"])
    return known


def _without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
