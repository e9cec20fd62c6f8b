"""Write checkpoints atomically: under another name, renamed when they are complete."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.strategies import Strategy
from torch.distributed.checkpoint.api import CheckpointException

from kdlight.checkpoints import check_before_loading, failed_write


def make_checkpoints_atomic(strategy: Strategy) -> None:
    """Make ``strategy`` write checkpoints atomically, and refuse to load an incomplete one.

    Lightning also writes a single file under another name, but moves it across file systems by
    copying. It writes a sharded folder in place, over the shards of an older one. Remote paths are
    left to Lightning.
    """
    check_before_loading(strategy)
    # on the instance: users would have to name a subclass of each strategy of Lightning
    strategy.save_checkpoint = partial(_save_atomically, strategy)  # type: ignore[method-assign]


def _save_atomically(
    strategy: Strategy, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None
) -> None:
    save = type(strategy).save_checkpoint
    filepath = strategy.broadcast(filepath)
    if "://" in str(filepath):
        save(strategy, checkpoint, filepath, storage_options=storage_options)
        return
    path = Path(filepath)
    part = path.with_name(f"{path.name}.part")
    if strategy.is_global_zero:
        _remove(part)
    strategy.barrier("before the checkpoint is written")
    try:
        save(strategy, checkpoint, part, storage_options=storage_options)
    except (OSError, CheckpointException) as error:
        message = failed_write(path, error)
        _remove(part)  # the space may be needed for another one
        raise OSError(message) from error
    strategy.barrier("after the checkpoint is written")
    if strategy.is_global_zero:
        _replace(part, path)
    strategy.barrier("after the checkpoint is renamed")


def _replace(part: Path, path: Path) -> None:
    if part.is_file() and not path.is_dir():
        os.replace(part, path)
        return
    # a folder cannot replace a folder in one call, so the older one is renamed first and kept
    older = path.with_name(f"{path.name}.older")
    _remove(older)
    if path.exists():
        os.rename(path, older)
    os.rename(part, path)
    _remove(older)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
