"""What one rank computes for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from lightning.pytorch import Trainer

Result = TypeVar("Result")


def from_first_rank(trainer: Trainer, compute: Callable[[], Result]) -> Result:
    """Return what ``compute`` returns on rank 0, on every rank.

    Raises:
        Exception: The error of ``compute``, on rank 0.
        ValueError: On the other ranks if it fails, so that none waits for another.

    Example:
        >>> trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
        >>> from_first_rank(trainer, lambda: 7)
        7
    """
    if trainer.world_size == 1:
        return compute()
    result, error = None, None
    if trainer.is_global_zero:
        try:
            result = compute()
        except Exception as raised:  # noqa: BLE001: a function of the user can fail in any way
            error = raised
    failed = error is not None
    message = f"rank 0 failed: {type(error).__name__}: {error}" if failed else ""
    result, failed, message = trainer.strategy.broadcast((result, failed, message))
    if failed:
        raise error or ValueError(message)
    return result  # type: ignore[return-value]
