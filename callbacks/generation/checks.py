"""Checks of what a callback that generates text needs, before the run starts."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer


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


def datamodule_of(trainer: Trainer) -> Any:
    """Return the data module of the run, or None."""
    return trainer.datamodule  # type: ignore[attr-defined]
