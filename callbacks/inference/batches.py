"""The validation batches of a run."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from math import isinf
from typing import Any

from lightning.pytorch import LightningModule, Trainer


def validation_batches(trainer: Trainer, module: LightningModule) -> Iterator[Any]:
    """Yield the validation batches of this rank, on the device of ``module``.

    ``limit_val_batches`` of the Trainer is respected.

    Raises:
        ValueError: The run has no validation data.
    """
    loaders = trainer.val_dataloaders
    if loaders is None:
        raise ValueError(
            "there is no validation data to report on; give the run a val_dataloader, or remove the"
            " callback (DistillationReport, TemperatureScaling)"
        )
    loaders = loaders if isinstance(loaders, list | tuple) else [loaders]
    for loader, limit in zip(loaders, trainer.num_val_batches, strict=True):
        for batch in islice(loader, None if isinf(limit) else int(limit)):
            yield trainer.strategy.batch_to_device(batch, module.device)
