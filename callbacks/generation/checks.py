"""Checks of what a callback that generates text needs, before the run starts."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy

from kdlight.checks import check_integer, check_type
from kdlight.teachers import Teacher


def check_generates(callback: str, role: str, network: Any) -> None:
    """Raise an error if a network has no ``generate`` method.

    Args:
        callback: name of the callback that needs it.
        role: ``"student"`` or ``"teacher"``.
        network: the network.

    Raises:
        ValueError: The network has no ``generate`` method.

    Example:
        >>> check_generates("OnPolicy", "student", object())
        Traceback (most recent call last):
        ValueError: OnPolicy needs a student that generates text, and object does not; use a ...
    """
    if not hasattr(network, "generate"):
        raise ValueError(
            f"{callback} needs a {role} that generates text, and {type(network).__name__} does not;"
            " use a kdlight.CausalLM, or remove the callback"
        )


def check_strategy(callback: str, trainer: Trainer) -> None:
    """Raise an error under a strategy whose student cannot generate.

    Raises:
        ValueError: The strategy is FSDP1 or DeepSpeed.
    """
    if isinstance(trainer.strategy, (FSDPStrategy, DeepSpeedStrategy)):
        raise ValueError(
            f"{callback} cannot generate under {type(trainer.strategy).__name__}; use DDP, or"
            " kdlight.distributed.FSDP2Strategy"
        )


def check_tokenizer(callback: str, trainer: Trainer) -> None:
    """Raise an error if the data module of the run has no tokenizer.

    Raises:
        ValueError: The run has no data module, or it has no ``tokenizer``.
    """
    if not hasattr(datamodule_of(trainer), "tokenizer"):
        raise ValueError(
            f"{callback} takes the tokenizer from the data module, which has none; use"
            " kdlight.data.TextDataModule or a data module with a `tokenizer`, or remove the"
            " callback"
        )


def known_tokens(student: Any, teacher: Any) -> int | None:
    """Return N where a teacher knows the first N ids of the student's only; None if it knows all.

    Example:
        >>> known_tokens(object(), None) is None
        True
    """
    own = getattr(student, "vocab_size", None)
    if own is None or not isinstance(teacher, Teacher):
        return None
    known = teacher.student_size(own)
    return known if known < own else None


def datamodule_of(trainer: Trainer) -> Any:
    """Return the data module of the run, or None."""
    return trainer.datamodule  # type: ignore[attr-defined]


def check_end(end: Any) -> None:
    """Raise an error for what is no list of token ids.

    Args:
        end: ids of the tokens that end a text, or None.

    Raises:
        TypeError: If it is no list of integers.
        ValueError: If an id is negative.

    Example:
        >>> check_end([-1])
        Traceback (most recent call last):
        ValueError: end must be at least 0, got -1
    """
    check_type("end", end, (list, tuple, type(None)), "a list of token ids or None")
    for token in end or ():
        check_integer("end", token, 0)


def check_prompt_tokens(callback: str, prompt_tokens: int, trainer: Trainer) -> None:
    """Raise an error if the blocks of the run have no room for a response behind the prompt.

    Raises:
        ValueError: The prompt of plain text is as long as a block, or longer.
    """
    block = getattr(datamodule_of(trainer), "block_size", None)
    if block is not None and prompt_tokens >= block:
        raise ValueError(
            f"{callback}: prompt_tokens is {prompt_tokens}, but the blocks of the data have {block}"
            f" tokens, so that no response would be generated; set prompt_tokens below {block}"
        )
