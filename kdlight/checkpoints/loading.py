"""Check a checkpoint before a strategy of Lightning loads it."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch.distributed as dist
from lightning.pytorch.strategies import Strategy

from kdlight.checkpoints.checksums import verify_checksums
from kdlight.checkpoints.reading import check_complete, is_readable
from kdlight.checkpoints.shards import check_plain


def check_before_loading(strategy: Strategy) -> None:
    """Make ``strategy`` check a checkpoint before it loads it.

    A checkpoint that is incomplete, or of which a byte has changed, is refused with its path, and a
    folder of shards that is more than plain data. Remote checkpoints and DeepSpeed's folders are
    left to Lightning.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> strategy = Trainer(accelerator="cpu", logger=False).strategy
        >>> check_before_loading(strategy)
        >>> strategy.load_checkpoint(__file__)
        Traceback (most recent call last):
        ValueError: checkpoint '...' is incomplete: its end is missing. ...
    """
    # on the instance: users would have to name a subclass of each strategy of Lightning
    strategy.load_checkpoint = partial(_load_checked, strategy)  # type: ignore[method-assign]


def _load_checked(
    strategy: Strategy, checkpoint_path: Any, *args: Any, **kwargs: Any
) -> dict[str, Any]:
    checkpoint_path = strategy.broadcast(checkpoint_path)
    if is_readable(checkpoint_path):
        path = check_complete(checkpoint_path)
        verify_checksums(path, share=_share())
        if path.is_dir():
            check_plain(path)
    return type(strategy).load_checkpoint(strategy, checkpoint_path, *args, **kwargs)


def _share() -> tuple[int, int]:
    """Return the share of this rank in what is read once for all."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1
