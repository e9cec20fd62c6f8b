"""Token ids of a prompt and of its response, with the boundary between the two exact."""

from __future__ import annotations

from typing import Any, NamedTuple

from kdlight.data.traces.record import Message, Prompt, Trace


class Tokens(NamedTuple):
    """Ids of a prompt, and of the response that follows it."""

    prompt: list[int]
    completion: list[int]


def as_messages(prompt: Prompt) -> list[Message]:
    """A text becomes the message of a user."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)


def uses_chat(tokenizer: Any, chat: bool | None) -> bool:
    """Whether prompts are put into the tokenizer's chat template; None leaves it to the tokenizer.

    Raises:
        ValueError: ``chat`` is True, and the tokenizer has no template.
    """
    has_template = getattr(tokenizer, "chat_template", None) is not None
    if chat and not has_template:
        raise ValueError("chat=True, but the tokenizer has no chat template; set chat to False")
    return has_template if chat is None else chat


def prompt_text(prompt: Prompt, tokenizer: Any, *, chat: bool) -> str:
    """The prompt as the model sees it, up to where the response begins."""
    if chat:
        return tokenizer.apply_chat_template(
            as_messages(prompt), tokenize=False, add_generation_prompt=True
        )
    if isinstance(prompt, str):
        return prompt
    return "\n".join(message["content"] for message in prompt)


def prompt_ids(prompt: Prompt, tokenizer: Any, *, chat: bool) -> list[int]:
    """Ids of the prompt; a template writes its own special tokens, else the tokenizer adds them."""
    text = prompt_text(prompt, tokenizer, chat=chat)
    ids = tokenizer(text, add_special_tokens=not chat, verbose=False)["input_ids"]
    if not chat and ids and ids[-1] == tokenizer.eos_token_id:  # it ends texts, and none ends here
        ids = ids[:-1]
    return ids


def tokenize(trace: Trace, tokenizer: Any, *, chat: bool) -> Tokens:
    """Ids of a trace. The two parts are encoded apart, so that no token covers their boundary.

    A model that generates sees the ids of the prompt alone; encoding both as one text could join
    the last sign of the prompt with the first one of the response. A finished response ends with
    the end-of-text token, a response that is known to be unfinished does not.

    Raises:
        ValueError: the tokenizer has no end-of-text token, or its template does not put a response
            behind its prompt.
    """
    end = tokenizer.eos_token_id
    if end is None:
        raise ValueError("the tokenizer has no end-of-text token (eos_token) to end responses with")
    text = trace.response
    if chat and trace.finished is not False:
        text = _closed(trace, tokenizer)
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if trace.finished is not False and (not ids or ids[-1] != end):
        ids = [*ids, end]
    return Tokens(prompt_ids(trace.prompt, tokenizer, chat=chat), ids)


def _closed(trace: Trace, tokenizer: Any) -> str:
    """The response with what the template closes it with, up to the end-of-text token."""
    before = prompt_text(trace.prompt, tokenizer, chat=True)
    messages = [*as_messages(trace.prompt), {"role": "assistant", "content": trace.response}]
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    if not whole.startswith(before):
        raise ValueError(
            "the chat template does not put the response behind the prompt: with the response it"
            f" reads {whole[:60]!r}..., before it {before[:60]!r}...; set chat to False, or give"
            " prompts as texts that are templated already"
        )
    text, end = whole[len(before) :], tokenizer.eos_token
    # a line break behind the end is part of the template, and nothing that is ever generated
    return text.rstrip() if end and text.rstrip().endswith(end) else text
