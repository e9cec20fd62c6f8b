"""Token ids of a prompt and of its response, with an exact boundary between them."""

from __future__ import annotations

from typing import Any, NamedTuple

from kdlight.data.traces.trace import Message, Prompt, Trace
from kdlight.data.traces.turn import place_response, render


class Tokens(NamedTuple):
    """Token ids of a prompt, and of the response that follows it."""

    prompt: list[int]
    completion: list[int]


def as_messages(prompt: Prompt) -> list[Message]:
    """Return a prompt as messages; a text becomes the message of a user."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)


def uses_chat(tokenizer: Any, chat: bool | None) -> bool:
    """Return whether to use the chat template of a tokenizer; by default if it has one.

    Raises:
        ValueError: If ``chat`` is True, and the tokenizer has no template.
    """
    has_template = getattr(tokenizer, "chat_template", None) is not None
    if chat and not has_template:
        raise ValueError("chat=True, but the tokenizer has no chat template; set chat to False")
    return has_template if chat is None else chat


def prompt_text(prompt: Prompt, tokenizer: Any, *, chat: bool) -> str:
    """Return the text that the model gets, up to the start of the response."""
    if chat:
        return render(as_messages(prompt), tokenizer, prompt=True)
    if isinstance(prompt, str):
        return prompt
    return "\n".join(message["content"] for message in prompt)


def prompt_ids(prompt: Prompt, tokenizer: Any, *, chat: bool) -> list[int]:
    """Return the token ids of a prompt.

    A chat template contains its special tokens; otherwise the tokenizer adds them.
    """
    text = prompt_text(prompt, tokenizer, chat=chat)
    ids = tokenizer(text, add_special_tokens=not chat, verbose=False)["input_ids"]
    # some tokenizers add an end-of-text token, but the text does not end with the prompt
    if not chat and ids and ids[-1] == tokenizer.eos_token_id:
        ids = ids[:-1]
    return ids


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
    finished, end = trace.finished is not False, tokenizer.eos_token_id
    if chat:
        messages = as_messages(trace.prompt)
        turn = place_response(messages, trace.response, tokenizer, finished=finished)
        prompt, ids = _ids(turn.prompt, tokenizer), _ids(turn.text, tokenizer)
        ended = turn.ended
    else:
        prompt, ids = (
            prompt_ids(trace.prompt, tokenizer, chat=False),
            _ids(trace.response, tokenizer),
        )
        ended = False
    if finished and not ended and ids[-1:] != [end]:
        if end is None:
            raise ValueError(
                "the tokenizer has no end-of-text token (eos_token) to end responses with"
            )
        ids = [*ids, end]
    return Tokens(prompt, ids)


def _ids(text: str, tokenizer: Any) -> list[int]:
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
