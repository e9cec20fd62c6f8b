"""The text of a conversation in parts: what a model gets, and the turns of the assistant."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from os.path import commonprefix
from typing import Any, NamedTuple

from kdlight.data.traces.messages import Message, content_text, other_fields, written_fields
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.turn import Turn, place_response

EMPTY = re.compile(r"\A\s*(?:<([^<>\s/]+)>\s*</\1>|\[([^\[\]\s/]+)\]\s*\[/\2\])\s*")
"""Marks around no reasoning, which some templates write in the last turn only."""


class Part(NamedTuple):
    """A piece of the text of a conversation.

    Attributes:
        text: the text.
        scored: whether it is a turn of the assistant.
        ended: whether a special token ends it.
        end: that end, or an empty text.
    """

    text: str
    scored: bool = False
    ended: bool = False
    end: str = ""


def plain_parts(messages: Sequence[Message], response: str) -> Iterator[Part]:
    """Yield the parts of lines of messages, joined as in a prompt, and of the response."""
    last = len(messages) - 1
    context = ""
    for number, message in enumerate(messages):
        line = content_text(message.get("content")) + ("\n" if number < last else "")
        if message["role"] == "assistant":
            yield Part(context)
            yield Part(line, scored=True)
            context = ""
        else:
            context += line
    yield Part(context)
    yield Part(response, scored=True)


def chat_parts(
    trace: Trace, messages: list[Message], numbers: Sequence[int], tokenizer: Any
) -> Iterator[Part]:
    """Yield the parts of the text of a chat template: its text up to a turn, the turn, and so on.

    The text that the template gives for the last turn must hold each earlier one.
    """
    asked = [*numbers, len(messages)]
    last = {**trace.response_fields, "content": trace.response}
    said = [*(messages[number] for number in numbers), last]
    turns = [
        place_response(
            messages[:number],
            content_text(message.get("content")),
            tokenizer,
            finished=number < len(messages) or trace.finished is not False,
            fields=other_fields(message),
            tools=trace.tools,
        )
        for number, message in zip(asked, said, strict=True)
    ]
    yield Part(turns[0].prompt)
    for number, message, (turn, following) in zip(numbers, said, pairwise(turns), strict=False):
        content = content_text(message.get("content"))
        candidates = [turn.text]
        if content in (shorter := EMPTY.sub("", turn.text)):
            candidates.append(shorter)
        if not written_fields(message):
            candidates.append(content + turn.end)
        text, context = _split_turn(turn, candidates, following.prompt, number + 1)
        yield Part(text, scored=True, ended=turn.ended, end=turn.end)
        yield Part(context)
    yield Part(turns[-1].text, scored=True, ended=turns[-1].ended, end=turns[-1].end)


def _split_turn(
    turn: Turn, candidates: Sequence[str], following: str, number: int
) -> tuple[str, str]:
    """Return the text of a turn and what follows it up to the next turn.

    Args:
        turn: the turn, as the last one of a conversation.
        candidates: its text as the template writes it at the end, and as a model writes it.
        following: the text that the template gives for the messages before the next turn.
        number: number of the message.
    """
    if following.startswith(turn.prompt):
        rest = following[len(turn.prompt) :]
        for text in candidates:
            if rest.startswith(text):
                return text, rest[len(text) :]
        for text in candidates:
            stop = _match_but_spaces(text, rest)
            if stop is not None:
                return text, rest[stop:]
    later = following[len(commonprefix([turn.prompt, following])) :]
    raise ValueError(
        f"the chat template changes message {number}, a turn of the assistant, once later messages"
        f" follow: the turn is {candidates[-1][:80]!r}, but later the text is {later[:80]!r}. Some"
        " templates drop the reasoning of earlier turns. Score the last turn only, with"
        " loss_on='response', remove the reasoning of earlier turns, or use another template"
    )


def _match_but_spaces(text: str, longer: str) -> int | None:
    """Return where a text ends in a longer one that may differ in spaces, or None.

    Example:
        >>> _match_but_spaces(" so 2 <end>", "so 2<end> next")
        9
    """
    position = 0
    for sign in text:
        if sign.isspace():
            continue
        while position < len(longer) and longer[position].isspace():
            position += 1
        if position == len(longer) or longer[position] != sign:
            return None
        position += 1
    spaces = text[len(text.rstrip()) :]
    return position + len(spaces) if longer.startswith(spaces, position) else position
