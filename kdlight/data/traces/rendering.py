"""The text of messages by the chat template of a tokenizer, which must hold tools and calls."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kdlight.data.traces.message_checks import tool_name
from kdlight.data.traces.messages import Message, calls_of, content_text

Tools = Sequence[Mapping[str, Any]] | None


def render(
    messages: Sequence[Message], tokenizer: Any, *, prompt: bool = False, tools: Tools = None
) -> str:
    """Return the text of messages by the chat template; ``prompt`` lets the assistant go on.

    Templates differ in the form of a tool call: its arguments are an object or a text of JSON, and
    the content beside it is an empty text or None. The first form is used with which the template
    writes all tools, calls, and results of tools. Parts of text are joined to one text.

    Args:
        messages: the messages.
        tokenizer: a Hugging Face tokenizer with a chat template.
        prompt: whether to append what opens the turn of the assistant.
        tools: JSON schemas of the tools that the model can call.

    Raises:
        ValueError: If the template refuses the messages, or does not write tools or calls.
    """
    from jinja2 import TemplateError

    reason = ""
    given = {"tools": tools} if tools else {}
    for form in _forms(messages):
        try:
            text = tokenizer.apply_chat_template(
                form, tokenize=False, add_generation_prompt=prompt, **given
            )
        # a template that does not expect None, or an object, fails as any program does
        except (TemplateError, TypeError, LookupError, AttributeError) as error:
            reason = reason or f"refuses messages of the roles {_roles(messages)}: {error}"
            continue
        lost = _lost(text, messages, tools)
        if lost is None:
            return text
        reason = f"does not write {lost}"
    raise ValueError(
        f"the chat template {reason}; set chat to False, change the messages, or use another"
        " template"
    )


def calls_are_in(text: str, message: Message) -> bool:
    """Return whether a text holds the names and the arguments of all tool calls of a message.

    Example:
        >>> call = {"function": {"name": "add", "arguments": {"a": 1}}}
        >>> calls_are_in('add({"a": 1})', {"role": "assistant", "tool_calls": [call]})
        True
        >>> calls_are_in("add()", {"role": "assistant", "tool_calls": [call]})
        False
    """
    return all(
        name in text and all(_is_in(leaf, text) for leaf in _leaves(_as_object(arguments)))
        for name, arguments in calls_of(message)
    )


def _roles(messages: Sequence[Message]) -> str:
    return ", ".join(message["role"] for message in messages)


def _forms(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Yield the messages in the forms that templates expect; there is one without tool calls."""
    has_calls = any(message.get("tool_calls") for message in messages)
    for convert in (_as_object, _as_text) if has_calls else (_as_object,):
        for empty in ("", None) if has_calls else ("",):
            yield [_form(message, convert, empty) for message in messages]


def _form(message: Message, convert: Any, empty: str | None) -> Message:
    content: str | None = content_text(message.get("content"))
    if not message.get("tool_calls"):
        # some templates ask only whether there is such a field
        known = {name: value for name, value in message.items() if name != "tool_calls"}
        return {**known, "content": content}
    content = content or empty
    calls = []
    for call in message["tool_calls"]:
        function = dict(call.get("function", call))
        function["arguments"] = convert(function.get("arguments"))
        calls.append({**call, "function": function} if "function" in call else function)
    return {**message, "content": content, "tool_calls": calls}


def _as_object(arguments: Any) -> Any:
    """Return the arguments of a call as an object; a text that is none stays one."""
    if arguments is None:
        return {}
    if isinstance(arguments, str):
        try:
            read = json.loads(arguments)
        except (ValueError, RecursionError):
            return arguments
        return read if isinstance(read, dict) else arguments
    return arguments


def _as_text(arguments: Any) -> str:
    if isinstance(arguments, str):
        return arguments
    return json.dumps(arguments or {}, ensure_ascii=False)


def _lost(text: str, messages: Sequence[Message], tools: Tools) -> str | None:
    """Return what a rendered text lacks, or None."""
    for tool in tools or ():
        if (name := tool_name(tool)) and name not in text:
            return f"the tool {name!r}"
    for number, message in enumerate(messages, start=1):
        if not calls_are_in(text, message):
            return f"the tool calls of message {number}"
        result = content_text(message.get("content")).strip()
        if message["role"] == "tool" and not _is_in(result, text):
            return f"message {number}, the result of a tool"
    return None


def _leaves(value: Any) -> Iterable[Any]:
    """Return the keys and the values within arguments, without objects and lists."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield name
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value


def _is_in(value: Any, text: str) -> bool:
    """Return whether a value is in a text, as it is or as JSON writes it."""
    if value is None or isinstance(value, bool):
        return any(each in text for each in (json.dumps(value), str(value)))
    if not isinstance(value, str):
        return json.dumps(value) in text or str(value) in text
    written = (value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1])
    return any(each in text for each in written)
