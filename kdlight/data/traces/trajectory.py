"""Token ids of a conversation with several turns of the assistant, each of which is scored."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from kdlight.data.traces.chat import check_plain, plain_ids, text_ids, tokenize, with_end
from kdlight.data.traces.conversation_parts import Part, chat_parts, plain_parts
from kdlight.data.traces.messages import other_fields
from kdlight.data.traces.trace import Trace


class TurnTokens(NamedTuple):
    """Token ids of a conversation.

    Attributes:
        prompt: ids up to the first turn of the assistant.
        completion: ids from there.
        turns: start and stop of each turn of the assistant within ``completion``.
    """

    prompt: list[int]
    completion: list[int]
    turns: list[tuple[int, int]]


def tokenize_turns(trace: Trace, tokenizer: Any, *, chat: bool) -> TurnTokens:
    """Return the token ids of a trace, and where the turns of the assistant are.

    A turn is what a model writes: its content, its tool calls, and the end of the turn. All parts
    are encoded separately, so that no token covers a boundary. The text before a turn is that of
    the chat template for the messages before it, but for spaces around an earlier content if the
    template strips these. Without a chat template, messages are lines, and a line break ends each
    turn but the last.

    Raises:
        ValueError: If the template changes an earlier turn once later messages follow, as those do
            that drop reasoning; or see `kdlight.data.traces.chat.tokenize`.
    """
    messages = [] if isinstance(trace.prompt, str) else list(trace.prompt)
    numbers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    if not numbers:
        prompt, ids = tokenize(trace, tokenizer, chat=chat)
        return TurnTokens(prompt, ids, [(0, len(ids))])
    if numbers[-1] == len(messages) - 1:
        raise ValueError(
            "the response continues the last message of the prompt, which is of the assistant; with"
            " loss_on='response' the response alone is scored"
        )
    if numbers[0] == 0:
        raise ValueError("message 1 is of the assistant, so that its turn has no prompt; remove it")
    if chat:
        parts = list(chat_parts(trace, messages, numbers, tokenizer))
    else:
        check_plain(trace.prompt, trace.tools, trace.response_fields)
        for number in numbers:
            check_plain("", None, other_fields(messages[number]))
        parts = list(plain_parts(messages, trace.response))
    finished = trace.finished is not False and not parts[-1].ended
    return _encode(parts, tokenizer, chat=chat, append_end=finished)


def _encode(parts: Sequence[Part], tokenizer: Any, *, chat: bool, append_end: bool) -> TurnTokens:
    first, *others = parts
    prompt = text_ids(first.text, tokenizer) if chat else plain_ids(first.text, tokenizer)
    completion: list[int] = []
    turns = []
    for previous, part in pairwise(parts):
        ids = _ids_after(previous, part.text, tokenizer)
        if part is others[-1] and append_end:
            ids = with_end(ids, tokenizer)
        if part.scored:
            turns.append((len(completion), len(completion) + len(ids)))
        completion += ids
    return TurnTokens(prompt, completion, turns)


def _ids_after(previous: Part, text: str, tokenizer: Any) -> list[int]:
    """Return the ids of a text as they are behind the special token that ends the previous part.

    Some tokenizers put a space before the first word of a text, but not behind a special token;
    others take the spaces behind a special token as a part of it.
    """
    if previous.ended and previous.end:
        end, both = text_ids(previous.end, tokenizer), text_ids(previous.end + text, tokenizer)
        if both[: len(end)] == end:
            return both[len(end) :]
    return text_ids(text, tokenizer)
