"""Say which checkpoint could not be written, and why."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from torch.distributed.checkpoint.api import CheckpointException


def name_failed_writes(trainer: Trainer) -> None:
    """Make errors of writing a checkpoint name its path and the space that is left.

    Example:
        >>> trainer = Trainer(accelerator="cpu", logger=False)
        >>> from lightning.pytorch import LightningModule
        >>> trainer.strategy.connect(LightningModule())
        >>> name_failed_writes(trainer)
        >>> trainer.save_checkpoint(f"{__file__}/a.ckpt")
        Traceback (most recent call last):
        OSError: checkpoint '...a.ckpt' cannot be written: ...
    """
    # on the instance: callbacks call this method
    trainer.save_checkpoint = partial(_save_named, trainer)  # type: ignore[method-assign]


def _save_named(trainer: Trainer, filepath: Any, *args: Any, **kwargs: Any) -> None:
    try:
        type(trainer).save_checkpoint(trainer, filepath, *args, **kwargs)
    except (OSError, CheckpointException) as error:
        raise OSError(failed_write(filepath, error)) from error


def failed_write(path: str | Path, error: BaseException) -> str:
    """Return the message that a checkpoint could not be written.

    Example:
        >>> failed_write("nowhere/a.ckpt", OSError(28, "No space left on device"))
        "checkpoint 'nowhere/a.ckpt' cannot be written: No space left on device (... GB free in ...
    """
    text = str(error)
    if text.startswith("checkpoint "):  # said already
        return text
    reason = getattr(error, "strerror", None) or next(iter(text.strip().splitlines()), "")
    folder = next(parent for parent in Path(path).absolute().parents if parent.exists())
    try:
        free = f" ({shutil.disk_usage(folder).free / 1e9:.1f} GB free in {str(folder)!r})"
    except OSError:
        free = ""
    return f"checkpoint {str(path)!r} cannot be written: {reason or type(error).__name__}{free}"
