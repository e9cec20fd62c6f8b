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
from kdlight.data.loaders import ResumableLoader
from kdlight.distributed.ranks import sum_over_ranks
from kdlight.endpoints import ServerError

NAME = "server_error.ckpt"


@contextmanager
def answered_on_all_ranks(trainer: Trainer, who: str = "the teacher's server") -> Iterator[None]:
    """Raise the error of a server on every rank, so that none waits for another one.

    Call it on all ranks, which communicate at the end of the block.

    Args:
        trainer: the trainer.
        who: what did not answer, for the ranks that have an answer.

    Raises:
        ServerError: the block raised it, or that of another rank.
    """
    if trainer.world_size == 1:
        yield
        return
    failed = None
    try:
        yield
    except ServerError as error:
        failed = error
    count = torch.tensor(float(failed is not None), device=trainer.strategy.root_device)
    others = int(sum_over_ranks(count).item())
    if failed is None and others:
        failed = ServerError(
            f"{who} did not answer {others} of {trainer.world_size} ranks; their"
            " errors tell the reason",
            url="that of another rank",
        )
    if failed is not None:
        failed.on_all_ranks = True
        raise failed


def has_as_many_batches(trainer: Trainer) -> bool:
    """Return whether all ranks have the same number of batches of the evaluation that starts."""
    if trainer.testing:
        batches = trainer.num_test_batches
    else:
        sanity = trainer.sanity_checking
        batches = trainer.num_sanity_val_batches if sanity else trainer.num_val_batches
    own = torch.tensor(float(sum(batches)), device=trainer.strategy.root_device)
    moments = sum_over_ranks(torch.stack([own, own.square()])) / trainer.world_size
    return bool(moments[1] == moments[0].square())


def save_after_server_error(trainer: Trainer, exception: BaseException) -> None:
    """Save a checkpoint where a fit ends as a server does not answer, and add it to the error.

    With several ranks it saves only where each has an error, see `answered_on_all_ranks`, as they
    save together. Before the first optimizer step there is nothing to save.

    The batch that failed is trained on when the run is resumed; with
    `kdlight.callbacks.ExactResume` so are those before it that the same optimizer step accumulates.

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
        with _batch_not_trained_on(trainer):
            trainer.save_checkpoint(path)
    except OSError as error:  # the first error is the one to be told
        rank_zero_info(f"kdlight: no checkpoint could be saved in {path}: {error}")
        return
    exception.args = (f"{exception}. The run was saved: --ckpt_path {path}", *exception.args[1:])


@contextmanager
def _batch_not_trained_on(trainer: Trainer) -> Iterator[None]:
    """Within the block, loaders do not count the batch that is in progress, if one is."""
    counts: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    combined = trainer.fit_loop._combined_loader
    loaders = [] if combined is None or counts.ready == counts.processed else combined.flattened
    saved = [each for each in loaders if isinstance(each, ResumableLoader)]
    for loader in saved:
        loader.looked_at += 1
    try:
        yield
    finally:
        for loader in saved:
            loader.looked_at -= 1
