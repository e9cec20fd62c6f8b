"""Checks of messages and tools: what cannot be kept and shown to a chat template is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kdlight.checks import check_type
from kdlight.data.traces.messages import REASONING, plain
from kdlight.data.traces.trace_checks import check_text

REFUSED = {
    "function_call": "write it as `tool_calls`",
    **dict.fromkeys(("audio", "image", "images", "video", "videos"), "only text can be kept"),
}
TEXTS = (*REASONING, "name", "tool_call_id")


def check_prompt(value: Any) -> None:
    """Raise an error for what is neither a text nor a list of messages."""
    if isinstance(value, str):
        check_text("prompt", value)
    else:
        check_messages("prompt", value)


def check_messages(name: str, value: Any) -> None:
    """Raise an error for what is no list of messages that can be kept whole.

    A message has a role and a content. The content is a text or a list of parts of text; it may be
    None or absent beside ``tool_calls``. Other fields are kept for the chat template.

    Raises:
        TypeError: If it is no list of mappings, or a field is of another kind.
        ValueError: If it is empty, a message lacks one of the two, or it has what is no text, such
            as an image.

    Example:
        >>> check_messages("prompt", [{"content": "hello"}])
        Traceback (most recent call last):
        ValueError: prompt: message 1 has no 'role', its fields are ['content']
        >>> check_messages("prompt", [{"role": "user", "content": [{"type": "image"}]}])
        Traceback (most recent call last):
        ValueError: prompt: part 1 of message 1 is of the type 'image', but only text can be kept
    """
    check_type(name, value, Sequence, "a text or a list of messages")
    if not value:
        raise ValueError(f"{name} must hold at least one message, got none")
    for number, message in enumerate(value, start=1):
        check_type(f"{name}: message {number}", message, Mapping, "an object")
        for field in ("role", "content"):
            if field not in message and not (field == "content" and message.get("tool_calls")):
                raise ValueError(
                    f"{name}: message {number} has no {field!r}, its fields are"
                    f" {sorted(map(str, message))}"
                )
        check_text(f"{name}: role of message {number}", message["role"])
        _check_content(name, number, message.get("content"), bool(message.get("tool_calls")))
        check_fields(name, f"message {number}", message)


def check_fields(name: str, place: str, fields: Mapping[str, Any]) -> None:
    """Raise an error for fields of a message, beside role and content, that cannot be kept.

    Raises:
        TypeError: If a field is of another kind.
        ValueError: If it is no text, such as an image, or JSON cannot represent it.

    Example:
        >>> check_fields("prompt", "message 1", {"image": "cat.png"})
        Traceback (most recent call last):
        ValueError: prompt: message 1 has the field 'image'; only text can be kept
    """
    for field, remedy in REFUSED.items():
        if fields.get(field) is not None:
            raise ValueError(f"{name}: {place} has the field {field!r}; {remedy}")
    for field in TEXTS:
        if fields.get(field) is not None:
            check_text(f"{name}: {field} of {place}", fields[field])
    if fields.get("tool_calls") is not None:
        _check_calls(f"{name}: tool_calls of {place}", fields["tool_calls"])
    others = {field: value for field, value in fields.items() if field not in ("role", *TEXTS)}
    if not isinstance(others.get("content"), (list, tuple)):
        others.pop("content", None)
    if others:
        check_json(f"{name}: {place}", others)


def check_tools(name: str, value: Any) -> None:
    """Raise an error for what is no list of JSON schemas of tools.

    Raises:
        TypeError: If it is no list of objects.
        ValueError: If one has no name, or JSON cannot represent it.

    Example:
        >>> check_tools("tools", [{"type": "function"}])
        Traceback (most recent call last):
        ValueError: tools: tool 1 has no 'name'; it must be a JSON schema of a function
    """
    check_type(name, value, (list, tuple), "a list of JSON schemas of tools")
    for number, tool in enumerate(value, start=1):
        check_type(f"{name}: tool {number}", tool, Mapping, "an object")
        if tool_name(tool) is None:
            raise ValueError(
                f"{name}: tool {number} has no 'name'; it must be a JSON schema of a function"
            )
        check_json(f"{name}: tool {number}", tool)


def tool_name(tool: Mapping[str, Any]) -> str | None:
    """Return the name of a tool from its JSON schema, or None."""
    function = tool.get("function", tool)
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) and name else None


def check_json(name: str, value: Any) -> None:
    """Raise an error for a value that is not the same after it is written and read as JSON.

    Raises:
        ValueError: If it is not.

    Example:
        >>> check_json("answer", {1: "one"})
        Traceback (most recent call last):
        ValueError: answer is not what JSON can represent: {1: 'one'}
    """
    try:
        value = plain(value)
        line = json.dumps(value, ensure_ascii=False, allow_nan=False)
        line.encode()
        same = json.loads(line) == value
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not what JSON can represent: {error}") from error
    if not same:
        raise ValueError(f"{name} is not what JSON can represent: {value!r}")


def _check_content(name: str, number: int, content: Any, has_calls: bool) -> None:
    if content is None and has_calls:
        return
    words = "a text or a list of parts of text"
    check_type(f"{name}: content of message {number}", content, (str, list, tuple), words)
    if isinstance(content, str):
        check_text(f"{name}: content of message {number}", content)
        return
    for count, part in enumerate(content or (), start=1):
        place = f"{name}: part {count} of message {number}"
        check_type(place, part, Mapping, "an object with a type and a text")
        if part.get("type") != "text":
            raise ValueError(
                f"{place} is of the type {part.get('type')!r}, but only text can be kept"
            )
        check_text(f"{place}: text", part.get("text"))


def _check_calls(name: str, calls: Any) -> None:
    check_type(name, calls, (list, tuple), "a list of tool calls")
    for number, call in enumerate(calls, start=1):
        place = f"{name}: call {number}"
        check_type(place, call, Mapping, "an object")
        if call.get("type") not in (None, "function"):
            raise ValueError(f"{place} is of the type {call['type']!r}, which must be 'function'")
        function = call.get("function")
        function = call if function is None else function
        check_type(f"{place}: function", function, Mapping, "an object")
        check_text(f"{place}: name of the function", function.get("name"))
        if not function["name"]:
            raise ValueError(f"{place}: name of the function must be a text, got an empty one")
        if function.get("arguments") is not None:
            kinds = "an object or a text of JSON"
            check_type(f"{place}: arguments", function["arguments"], (Mapping, str), kinds)
