"""Checks of what a callback that lets the student answer prompts needs, before the run starts."""

from __future__ import annotations

from collections.abc import Sequence
from math import lcm
from typing import Any

from lightning.pytorch import Trainer

from kdlight.data.traces.chat import prompt_ids
from kdlight.data.traces.responses import check_room
from kdlight.data.traces.trace import Trace
from kdlight.models.end_tokens import end_tokens


def check_validates(callback: str, trainer: Trainer, *, every_n_epochs: int) -> None:
    """Raise an error for a fit in which a callback at the end of validations would never run.

    Raises:
        ValueError: There is no validation, or there are fewer epochs.
    """
    if not trainer.enable_validation:
        raise ValueError(
            f"{callback} runs at the end of a validation, but this run has none; give it a"
            " val_dataloader and a validation_step, or remove the callback"
        )
    every = trainer.check_val_every_n_epoch or 1
    if 0 < (trainer.max_epochs or 0) < lcm(every_n_epochs, every):
        also = "" if every == 1 else f" and check_val_every_n_epoch {every}"
        raise ValueError(
            f"every_n_epochs is {every_n_epochs}{also}, but the run has {trainer.max_epochs}"
            f" epochs, so that {callback} would never run; set every_n_epochs to at most this"
        )


def check_has_batches(callback: str, trainer: Trainer) -> None:
    """Raise an error for a fit whose validation has no batches.

    Raises:
        ValueError: There are no batches to validate on.
    """
    if not sum(trainer.num_val_batches):
        raise ValueError(
            f"{callback} runs at the end of a validation, but this run has no batches to validate"
            " on; give it some, such as with validation_fraction above 0"
        )


def check_names(callback: type, trainer: Trainer) -> None:
    """Raise an error for two callbacks of a class with the same ``name``.

    Raises:
        ValueError: There are two.
    """
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    names = [each.name for each in callbacks if isinstance(each, callback)]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"two {callback.__name__} callbacks have the name {name!r}, and would log under the"
                " same names; give each its own `name`"
            )


def check_answerable(
    student: Any, tokenizer: Any, prompts: Sequence[Trace], *, chat: bool, max_new_tokens: int
) -> None:
    """Raise an error for prompts that a student cannot answer.

    Args:
        student: the network.
        tokenizer: its tokenizer.
        prompts: the prompts.
        chat: whether to apply the chat template of the tokenizer.
        max_new_tokens: maximal length of an answer.

    Raises:
        ValueError: There are no prompts, or two with one id; there is no end token; a prompt has no
            tokens, or the context of the student has no room for it and its answer.

    Example:
        >>> check_answerable(None, None, [], chat=False, max_new_tokens=8)
        Traceback (most recent call last):
        ValueError: prompts must hold at least one prompt, got none
    """
    if not prompts:
        raise ValueError("prompts must hold at least one prompt, got none")
    if len({prompt.prompt_id for prompt in prompts}) < len(prompts):
        raise ValueError("prompts must have different ids, `prompt_id`, but two are the same")
    if not end_tokens(student, tokenizer):
        raise ValueError(
            "neither the tokenizer (eos_token) nor the student's generation config (eos_token_id)"
            " has an end token, so that no answer would end; set one of them"
        )
    rows = [
        prompt_ids(prompt.prompt, tokenizer, chat=chat, tools=prompt.tools) for prompt in prompts
    ]
    check_room(student, prompts, rows, max_new_tokens)
