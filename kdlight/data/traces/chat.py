"""Token ids of a prompt and of its response, with an exact boundary between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from kdlight.data.traces.messages import (
    Prompt,
    as_messages,
    begun_turn,
    content_text,
    written_fields,
)
from kdlight.data.traces.rendering import Tools, render
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.turn import Turn, place_response


class Tokens(NamedTuple):
    """Token ids of a prompt, and of the response that follows it."""

    prompt: list[int]
    completion: list[int]


def uses_chat(tokenizer: Any, chat: bool | None) -> bool:
    """Return whether to use the chat template of a tokenizer; by default if it has one.

    Raises:
        ValueError: If ``chat`` is True, and the tokenizer has no template.
    """
    has_template = getattr(tokenizer, "chat_template", None) is not None
    if chat and not has_template:
        raise ValueError("chat=True, but the tokenizer has no chat template; set chat to False")
    return has_template if chat is None else chat


def prompt_text(prompt: Prompt, tokenizer: Any, *, chat: bool, tools: Tools = None) -> str:
    """Return the text that the model gets, up to the start of the response.

    Raises:
        ValueError: If the chat template refuses the messages, or without one there are tools or
            tool calls, which only a template can write.
    """
    prompt, begun = begun_turn(prompt)
    if chat and begun:
        # finished, as some templates write more before a turn than before its place
        turn = place_response(as_messages(prompt), begun, tokenizer, finished=True, tools=tools)
        return turn.prompt + turn.text.removesuffix(turn.end)
    if chat:
        return render(as_messages(prompt), tokenizer, prompt=True, tools=tools)
    check_plain(prompt, tools)
    if isinstance(prompt, str):
        return prompt
    return "\n".join(content_text(message.get("content")) for message in prompt) + begun


def check_plain(
    prompt: Prompt, tools: Tools = None, response_fields: Mapping[str, Any] | None = None
) -> None:
    """Raise an error for what cannot be written without a chat template.

    Raises:
        ValueError: If there are tools, tool calls, or fields of the response.

    Example:
        >>> check_plain("1 + 1 =", response_fields={"reasoning_content": "one more"})
        Traceback (most recent call last):
        ValueError: only a chat template can write reasoning_content of the response; chat is False
    """
    found = ["tools"] if tools else []
    if not isinstance(prompt, str) and any(message.get("tool_calls") for message in prompt):
        found.append("tool_calls of a message")
    found += [f"{name} of the response" for name in written_fields(response_fields or {})]
    if found:
        raise ValueError(f"only a chat template can write {found[0]}; chat is False")


def prompt_ids(prompt: Prompt, tokenizer: Any, *, chat: bool, tools: Tools = None) -> list[int]:
    """Return the token ids of a prompt.

    A chat template contains its special tokens; otherwise the tokenizer adds them.
    """
    text = prompt_text(prompt, tokenizer, chat=chat, tools=tools)
    return text_ids(text, tokenizer) if chat else plain_ids(text, tokenizer)


def plain_ids(text: str, tokenizer: Any) -> list[int]:
    """Return the token ids of the start of a text, with what the tokenizer adds before it."""
    ids = tokenizer(text, add_special_tokens=True, verbose=False)["input_ids"]
    # some tokenizers add an end-of-text token, but the text does not end with the prompt
    return ids[:-1] if ids and ids[-1] == tokenizer.eos_token_id else ids


def text_ids(text: str, tokenizer: Any) -> list[int]:
    """Return the token ids of a text, without those that the tokenizer adds."""
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def tokenize(trace: Trace, tokenizer: Any, *, chat: bool) -> Tokens:
    """Return the token ids of a trace; prompt and response are encoded separately.

    No token then covers the boundary. A model that generates gets the ids of the prompt only, while
    encoding both as one text could merge the last character of the prompt with the first one of the
    response. A finished response ends as the chat template ends a turn, or with the end-of-text
    token; a response with ``finished=False`` does not.

    Raises:
        ValueError: If the tokenizer has no token to end a response with, or its chat template does
            not append the response to the prompt.
    """
    finished = trace.finished is not False
    fields, tools = trace.response_fields, trace.tools
    if chat:
        before, begun = begun_turn(trace.prompt)
        turn = place_response(
            as_messages(before),
            begun + trace.response,
            tokenizer,
            finished=finished,
            fields=fields,
            tools=tools,
        )
        if begun:
            turn = _behind(prompt_text(trace.prompt, tokenizer, chat=True, tools=tools), turn)
        prompt, ids = text_ids(turn.prompt, tokenizer), text_ids(turn.text, tokenizer)
        ended = turn.ended
    else:
        check_plain(trace.prompt, tools, fields)
        prompt = prompt_ids(trace.prompt, tokenizer, chat=False)
        ids, ended = text_ids(trace.response, tokenizer), False
    return Tokens(prompt, with_end(ids, tokenizer) if finished and not ended else ids)


def _behind(prompt: str, turn: Turn) -> Turn:
    """Return a turn whose prompt has the begin of its text."""
    text = turn.prompt + turn.text
    if not text.startswith(prompt):
        raise ValueError(
            "the chat template changes a message of the assistant when a response continues it: it"
            f" is {prompt[-80:]!r} alone, and {text[-80:]!r} with the response; use prompts that do"
            " not end with a message of the assistant"
        )
    return Turn(prompt, text[len(prompt) :], turn.ended, turn.end)


def with_end(ids: list[int], tokenizer: Any) -> list[int]:
    """Return the ids of a response with the end-of-text token, unless they end with it.

    Raises:
        ValueError: If the tokenizer has no such token.
    """
    end = tokenizer.eos_token_id
    if ids[-1:] == [end] and end is not None:
        return ids
    if end is None:
        raise ValueError("the tokenizer has no end-of-text token (eos_token) to end responses with")
    return [*ids, end]
