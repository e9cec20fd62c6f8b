"""Write checkpoints atomically: under another name, renamed when they are complete."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch.strategies import Strategy

from kdlight.checkpoints import check_complete, is_readable


def make_checkpoints_atomic(strategy: Strategy) -> None:
    """Make ``strategy`` write checkpoints atomically, and refuse to load an incomplete one.

    Lightning also writes a single file under another name, but moves it across file systems by
    copying. It writes a sharded folder in place, over the shards of an older one. Remote paths are
    left to Lightning.
    """
    if getattr(strategy, "_kdlight_atomic", False):
        return
    save, load = strategy.save_checkpoint, strategy.load_checkpoint

    def save_atomically(
        checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None
    ) -> None:
        filepath = strategy.broadcast(filepath)
        if "://" in str(filepath):
            save(checkpoint, filepath, storage_options=storage_options)
            return
        path = Path(filepath)
        part = path.with_name(f"{path.name}.part")
        if strategy.is_global_zero:
            _remove(part)
        strategy.barrier("before the checkpoint is written")
        save(checkpoint, part, storage_options=storage_options)
        strategy.barrier("after the checkpoint is written")
        if strategy.is_global_zero:
            _replace(part, path)
        strategy.barrier("after the checkpoint is renamed")

    def load_complete(checkpoint_path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        checkpoint_path = strategy.broadcast(checkpoint_path)
        if is_readable(checkpoint_path):
            check_complete(checkpoint_path)
        return load(checkpoint_path, *args, **kwargs)

    # on the instance: users would have to name a subclass of each strategy of Lightning
    strategy.save_checkpoint, strategy.load_checkpoint = save_atomically, load_complete  # type: ignore[method-assign]
    strategy._kdlight_atomic = True  # type: ignore[attr-defined]


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
