"""What a run does when a teacher's server does not answer: all ranks stop, with a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info

from kdlight.checkpoints import writable_folder
from kdlight.distributed.ranks import sum_over_ranks
from kdlight.endpoints import ServerError

NAME = "server_error.ckpt"


@contextmanager
def answered_on_all_ranks(trainer: Trainer) -> Iterator[None]:
    """Raise the error of a server on every rank, so that none waits for another one.

    Call it on all ranks, which communicate at the end of the block.

    Raises:
        ServerError: the block raised it, or that of another rank.
    """
    failed = None
    try:
        yield
    except ServerError as error:
        failed = error
    count = torch.tensor(float(failed is not None), device=trainer.strategy.root_device)
    others = int(sum_over_ranks(count).item())
    if failed is None and others:
        failed = ServerError(
            f"the teacher's server did not answer {others} of {trainer.world_size} ranks; their"
            " errors tell the reason",
            url="that of another rank",
        )
    if failed is not None:
        failed.on_all_ranks = True
        raise failed


def save_after_server_error(trainer: Trainer, exception: BaseException) -> None:
    """Save a checkpoint where a fit ends as a server does not answer, and add it to the error.

    With several ranks it saves only where each has an error, see `answered_on_all_ranks`, as they
    save together. Before the first optimizer step there is nothing to save.

    Args:
        trainer: the trainer.
        exception: what ends the fit; other errors are left alone.
    """
    is_training = trainer.state.fn == "fit" and not trainer.sanity_checking
    if not isinstance(exception, ServerError) or not is_training or not trainer.global_step:
        return
    if trainer.world_size > 1 and not exception.on_all_ranks:
        return
    wanted: Any = trainer.log_dir or trainer.default_root_dir
    folder = wanted
    if trainer.is_global_zero:
        folder = writable_folder([str(wanted), trainer.default_root_dir])
    path = Path(trainer.strategy.broadcast(folder)) / NAME
    try:
        trainer.save_checkpoint(path)
    except OSError as error:  # the first error is the one to be told
        rank_zero_info(f"kdlight: no checkpoint could be saved in {path}: {error}")
        return
    exception.args = (f"{exception}. The run was saved: --ckpt_path {path}", *exception.args[1:])
