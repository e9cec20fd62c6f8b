"""Start an epoch with its first batch when a run is resumed between two epochs."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer


def start_with_first_batch(trainer: Trainer) -> None:
    """Make a run that is resumed after the last batch of an epoch begin the next one.

    Lightning tells that an epoch is over by comparing the number of batches that were trained on
    with that of the loader. If the next epoch has more batches, because its loader has grown, it
    would leave out as many of them as the last epoch had. Call it when the training starts.
    """
    training: Any = trainer.fit_loop.epoch_loop
    progress = training.batch_progress
    if not (progress.is_last_batch and training.restarted_on_train_batch_end):
        return
    progress.is_last_batch = False
    # Lightning adds 1 to the last, and takes the others from it
    progress.current.ready = progress.current.started = progress.current.processed = 0
    progress.current.completed = -1
