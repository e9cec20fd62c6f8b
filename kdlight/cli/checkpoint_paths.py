"""The checkpoint that Lightning will load for ``--ckpt_path``, found before it is loaded."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from lightning.pytorch import Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from kdlight.checkpoints import check_complete, is_readable

NAMES = ("best", "last", "hpc")
"""Values of ``ckpt_path`` for which Lightning looks for a checkpoint."""


def is_name(ckpt_path: Any) -> bool:
    """Return whether a ``ckpt_path`` is a name for which Lightning looks for a checkpoint.

    Example:
        >>> [is_name(value) for value in ("last", "registry:model", "a:b/last.ckpt", None)]
        [True, True, False, False]
    """
    text = str(ckpt_path)
    return text in NAMES or text.lower() == "registry" or text.lower().startswith("registry:")


def resolve(trainer: Trainer, command: str, ckpt_path: Any) -> Any:
    """Return the checkpoint that Lightning will load; None if it will load none.

    This is Lightning's own search, with the Trainer of the run. Without a ``ckpt_path`` it also
    finds a checkpoint that was written on preemption under SLURM.

    Args:
        trainer: the Trainer of the run.
        command: the command, such as ``"fit"``.
        ckpt_path: the option of the command.

    Raises:
        ValueError: There is no checkpoint of that name.

    Example:
        >>> resolve(Trainer(accelerator="cpu", logger=False), "fit", "a/last.ckpt")
        'a/last.ckpt'
    """
    before, trainer.state.fn = trainer.state.fn, TrainerFn(command)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Lightning will say the same again
            return trainer._checkpoint_connector._parse_ckpt_path(
                trainer.state.fn, ckpt_path, model_provided=True, model_connected=False
            )
    finally:
        trainer.state.fn = before


def local_path(ckpt_path: Any) -> Path | None:
    """Return the path of a checkpoint on this machine, after a check that it is complete.

    None stands for no checkpoint, a remote one, and a folder that DeepSpeed wrote.

    Raises:
        ValueError: It does not exist or is incomplete.

    Example:
        >>> local_path("s3://bucket/a.ckpt"), local_path(None)
        (None, None)
    """
    if not ckpt_path or is_remote(ckpt_path):
        return None
    path = Path(url_to_fs(str(ckpt_path))[1] if "://" in str(ckpt_path) else ckpt_path)
    if path.is_dir() and not is_readable(path):
        rank_zero_warn(
            f"the checkpoint {str(path)!r} is a folder that is not compared with the command line"
        )
        return None
    return check_complete(path)


def is_remote(ckpt_path: Any) -> bool:
    """Return whether a checkpoint is a URL of another machine.

    Example:
        >>> is_remote("s3://bucket/a.ckpt"), is_remote("file:///a.ckpt"), is_remote("12:30/a.ckpt")
        (True, False, False)
    """
    scheme, found, _ = str(ckpt_path).partition("://")
    if not found or Path(str(ckpt_path)).exists():
        return False
    return scheme not in LocalFileSystem.protocol
