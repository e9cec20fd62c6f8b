"""Token ids of a prompt and of its response, with an exact boundary between them."""

from __future__ import annotations

from typing import Any, NamedTuple

from kdlight.data.traces.trace import Message, Prompt, Trace


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
        return tokenizer.apply_chat_template(
            as_messages(prompt), tokenize=False, add_generation_prompt=True
        )
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
    response. A finished response ends with the end-of-text token; a response with
    ``finished=False`` does not.

    Raises:
        ValueError: If the tokenizer has no end-of-text token, or its chat template does not append
            the response to the prompt.
    """
    end = tokenizer.eos_token_id
    if end is None:
        raise ValueError("the tokenizer has no end-of-text token (eos_token) to end responses with")
    text = trace.response
    if chat and trace.finished is not False:
        text = _templated_response(trace, tokenizer)
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if trace.finished is not False and (not ids or ids[-1] != end):
        ids = [*ids, end]
    return Tokens(prompt_ids(trace.prompt, tokenizer, chat=chat), ids)


def _templated_response(trace: Trace, tokenizer: Any) -> str:
    """Return the response and what the template appends to it, up to the end-of-text token."""
    prompt = prompt_text(trace.prompt, tokenizer, chat=True)
    messages = [*as_messages(trace.prompt), {"role": "assistant", "content": trace.response}]
    conversation = tokenizer.apply_chat_template(messages, tokenize=False)
    if not conversation.startswith(prompt):
        raise ValueError(
            "the chat template does not append the response to the prompt: with the response it"
            f" gives {conversation[:60]!r}..., without it {prompt[:60]!r}...; set chat to False, or"
            " use prompts that are texts with the template applied"
        )
    text, end = conversation[len(prompt) :], tokenizer.eos_token
    # a line break after the end-of-text token belongs to the template and is never generated
    return text.rstrip() if end and text.rstrip().endswith(end) else text
