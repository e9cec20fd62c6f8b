"""Whether the text of a turn has the reasoning, the content and the tool calls of its message."""

from __future__ import annotations

from kdlight.data.traces.messages import REASONING, Message, content_text
from kdlight.data.traces.rendering import calls_are_in


def put_fields(text: str, message: Message) -> str:
    """Return the text of a turn with the content of its message whole, after its reasoning.

    A template may strip spaces around the content, which are put back: a model has written them.
    Those around reasoning are not a part of it.

    Args:
        text: the turn as a chat template writes it, without its end.
        message: the message.

    Raises:
        ValueError: If the text does not have the reasoning, the content or a tool call.

    Example:
        >>> message = {"role": "assistant", "content": "2 ", "reasoning_content": "1 + 1"}
        >>> put_fields("<think>1 + 1</think>2", message)
        '<think>1 + 1</think>2 '
        >>> put_fields("2", message)
        Traceback (most recent call last):
        ValueError: the chat template does not write the reasoning_content of the response...
    """
    start = 0
    for name in REASONING:
        reasoning = (message.get(name) or "").strip()
        if reasoning:  # two fields may hold the same
            start = max(start, _end_of(reasoning, text, 0, name))
    content = content_text(message.get("content"))
    if text.find(content, start) < 0:
        stop = _end_of(content.strip(), text, start, "content")
        text = text[: stop - len(content.strip())] + content + text[stop:]
    if not calls_are_in(text[start:], message):
        raise ValueError(_reason("tool_calls"))
    return text


def _end_of(part: str, text: str, start: int, name: str) -> int:
    found = text.find(part, start)
    if found < 0:
        raise ValueError(_reason(name))
    return found + len(part)


def _reason(name: str) -> str:
    return (
        f"the chat template does not write the {name} of the response; remove the field, write it"
        " into the content, or use another template"
    )
