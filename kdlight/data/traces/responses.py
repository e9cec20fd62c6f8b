"""Responses of a model to a batch of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdlight.data.traces.chat import prompt_ids
from kdlight.data.traces.stopping import turn_end_token
from kdlight.data.traces.trace import Trace
from kdlight.models.context import context_length
from kdlight.models.end_tokens import cut_at_end, decode, end_tokens
from kdlight.models.evaluating import evaluating
from kdlight.models.sampling import Sampling
from kdlight.rollouts import RolloutEngine, Writer
from kdlight.rollouts.continuation import continue_text


@torch.no_grad()
def answer(
    model: Any, tokenizer: Any, prompts: Sequence[Trace], *, chat: bool, **options: Any
) -> list[Trace]:
    """Return the responses of a model to prompts, generated in one batch with left padding.

    A response ends at the first end token of the model or the tokenizer, see
    `kdlight.models.end_tokens.end_tokens`, or where the chat template ends a turn. Its text does
    not have this token. Other special tokens, such
    as marks around reasoning, are a part of the text.

    Args:
        model: a Hugging Face causal language model, or a `kdlight.CausalLM`.
        tokenizer: the tokenizer of the model.
        prompts: prompts, as traces with any response.
        chat: whether to apply the chat template of the tokenizer to prompts.
        **options: arguments of ``generate`` of the Hugging Face model, such as
            `kdlight.models.Sampling` returns them, with ``max_new_tokens``.

    Raises:
        ValueError: If there is no end token, a prompt has no tokens, or a prompt and
            ``max_new_tokens`` together exceed the context of the model.
    """
    most = options.pop("max_new_tokens")
    asked = _asked(model, tokenizer, prompts, chat, most)
    device = next(model.parameters()).device
    with evaluating(model):
        texts = continue_text(
            model, asked.rows, [most] * len(prompts), end=asked.ends, device=device, **options
        )
    return _responses(tokenizer, prompts, asked, texts)


def answer_through(
    engine: RolloutEngine,
    writer: Writer,
    tokenizer: Any,
    prompts: Sequence[Trace],
    *,
    chat: bool,
    sampling: Sampling,
    seed: int,
    ends: Sequence[int] = (),
) -> list[Trace]:
    """Return the responses of an engine to prompts, see `answer`.

    Args:
        engine: what generates.
        writer: the network that it generates with; its network is None for what a server has.
        tokenizer: the tokenizer of the model.
        prompts: prompts, as traces with any response.
        chat: whether to apply the chat template of the tokenizer to prompts.
        sampling: how the engine generates, with ``max_new_tokens``.
        seed: the seed of these responses.
        ends: ids of further tokens that end a response.

    Raises:
        ValueError: As `answer`.
    """
    assert sampling.max_new_tokens is not None
    asked = _asked(writer.network, tokenizer, prompts, chat, sampling.max_new_tokens, ends)
    room = [sampling.max_new_tokens] * len(prompts)
    texts = engine.generate(writer, asked.rows, room, sampling=sampling, seed=seed, end=asked.ends)
    return _responses(tokenizer, prompts, asked, texts)


class _Asked(NamedTuple):
    """Tokens of prompts, and the ids of the tokens that end a response."""

    rows: list[Tensor]
    ends: list[int]


def _asked(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Trace],
    chat: bool,
    max_new_tokens: int,
    ends: Sequence[int] = (),
) -> _Asked:
    own = end_tokens(model, tokenizer)
    ends = [*own, *sorted(set(ends) - set(own))]
    turn_end = turn_end_token(tokenizer) if chat else None
    if turn_end is not None and turn_end not in ends:
        ends = [*ends, turn_end]
    if not ends:
        raise ValueError(
            "neither the tokenizer (eos_token) nor the model's generation config (eos_token_id) has"
            " an end token, so that no response would end; set one of them"
        )
    rows = [
        prompt_ids(prompt.prompt, tokenizer, chat=chat, tools=prompt.tools) for prompt in prompts
    ]
    check_room(model, prompts, rows, max_new_tokens)
    return _Asked([torch.tensor(row) for row in rows], ends)


def _responses(
    tokenizer: Any, prompts: Sequence[Trace], asked: _Asked, texts: Sequence[Tensor]
) -> list[Trace]:
    answers = []
    for prompt, row, text in zip(prompts, asked.rows, texts, strict=True):
        text_ids, finished = cut_at_end(text[len(row) :].tolist(), asked.ends)
        response, length = decode(tokenizer, text_ids), len(text_ids) + finished
        made = {"response": response, "response_fields": {}}
        answers.append(replace(prompt, **made, n_tokens=length, finished=finished))
    return answers


def batch_seed(seed: int, start: int) -> int:
    """Return the seed of the batch that begins with the prompt of the index ``start``.

    Batches that are seeded so have the same responses in any order, process and run.
    """
    # a hash, so that the seeds of batches are not correlated
    return int(sha256(f"{seed}:{start}".encode()).hexdigest()[:8], 16)


def check_room(
    model: Any,
    prompts: Sequence[Trace],
    rows: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    context: int | None = None,
) -> None:
    """Raise an error where the context of a model has no room for a prompt and its response.

    Args:
        model: the model.
        prompts: the prompts.
        rows: the tokens of each prompt.
        max_new_tokens: maximal length of a response.
        context: that of a server, which may be shorter; None if there is none.

    Raises:
        ValueError: If a prompt has no tokens, or the context is too short.
    """
    contexts = [each for each in (context_length(model), context) if each is not None]
    context = min(contexts, default=None)
    for prompt, row in zip(prompts, rows, strict=True):
        if not row:
            raise ValueError(f"prompt {prompt.prompt_id!r} has no tokens; remove it")
        if context is not None and len(row) + max_new_tokens > context:
            raise ValueError(
                f"prompt {prompt.prompt_id!r} has {len(row)} tokens, and max_new_tokens is"
                f" {max_new_tokens}, but the context of the model is {context}; set max_new_tokens"
                f" to {context - len(row)} or less"
                if len(row) < context
                else f"prompt {prompt.prompt_id!r} has {len(row)} tokens, but the context of the"
                f" model is {context}; remove it, or use another model"
            )
