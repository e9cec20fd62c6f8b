"""Training batches outside of the loops of the Trainer, for what is trained before a fit."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from lightning.pytorch import LightningModule, Trainer


def check_datamodule(callback: str, trainer: Trainer) -> None:
    """Raise a ValueError where a fit has no data module, which a callback takes its batches from.

    Example:
        >>> trainer = Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
        >>> check_datamodule("TrainTeacherFirst", trainer)
        Traceback (most recent call last):
        ValueError: TrainTeacherFirst takes its data from a LightningDataModule; pass one to fit
    """
    if getattr(trainer, "datamodule", None) is None:
        raise ValueError(f"{callback} takes its data from a LightningDataModule; pass one to fit")


def repeated_batches(trainer: Trainer, module: LightningModule, loader: Any) -> Iterator[Any]:
    """Yield the batches of a loader again and again, in a new order each time, on the device.

    Args:
        trainer: the trainer, whose strategy moves batches.
        module: the module, on whose device they are used.
        loader: a training loader of the data module.

    Raises:
        ValueError: The loader has no batch.

    Example:
        >>> from itertools import islice
        >>> from torch.utils.data import DataLoader
        >>> trainer = Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
        >>> loader = DataLoader([1.0, 2.0], batch_size=2)
        >>> batches = repeated_batches(trainer, LightningModule(), loader)
        >>> [each.tolist() for each in islice(batches, 2)]
        [[1.0, 2.0], [1.0, 2.0]]
    """
    for epoch in count():
        if hasattr(loader.sampler, "set_epoch"):  # outside of its loops the Trainer does not
            loader.sampler.set_epoch(epoch)
        is_empty = True
        for batch in loader:
            is_empty = False
            yield trainer.strategy.batch_to_device(batch, module.device)
        if is_empty:
            raise ValueError("the training before the fit got no batch from the data module")
