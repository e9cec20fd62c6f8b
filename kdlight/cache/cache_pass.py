"""One pass of a teacher over the data, on all ranks of a trainer."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from kdlight.cache.folder import complete, prepare_folder
from kdlight.cache.run_manifest import make_manifest
from kdlight.cache.settings import Settings
from kdlight.cache.size_estimate import check_disk_space, is_empty
from kdlight.cache.writer import CacheWriter
from kdlight.checks import check_integer
from kdlight.losses.labels import IGNORE_INDEX
from kdlight.sources import as_source


def write_cache(
    module: Any,
    data: LightningDataModule,
    trainer: Trainer,
    output: str,
    settings: Settings,
    *,
    shard_positions: int = 2**16,
    names: dict[str, Any] | None = None,
) -> None:
    """Write the teacher's logits for all training and validation data to disk.

    Sequences that are stored already are skipped, so an interrupted run resumes.

    Args:
        module: a `kdlight.DistillationModule`; its student is not used.
        data: the data that a run will train and validate on.
        trainer: sets devices and precision. It should have no callbacks and limits of a training
            run.
        output: a folder, empty or with an incomplete cache of the same teacher, tokenizer and
            settings.
        settings: which logits are stored, and how precisely.
        shard_positions: number of positions in a shard.
        names: names of the ``teacher`` and the ``data``, for the manifest.

    Raises:
        ValueError: If the folder holds something else, there is no teacher to run, the disk has not
            enough free space, or ``shard_positions`` is below 1.
    """
    check_integer("shard_positions", shard_positions, 1)
    settings.check()
    folder = Path(output)
    data.trainer = trainer
    data.prepare_data()
    data.setup("fit")
    manifest = make_manifest(module, data, settings, names or {})
    if trainer.is_global_zero:
        prepare_folder(folder, manifest)
        check_disk_space(data, manifest, folder)
    writer = CacheWriter(folder, manifest, shard_positions=shard_positions)
    with warnings.catch_warnings():
        # a repeated sample is stored once, and the order does not matter
        warnings.filterwarnings("ignore", ".*it is (strongly )?recommended.*")
        # not predict(), which creates each loader again; not every loader class supports that
        trainer.test(CachePass(module, writer), datamodule=_AllData(data), verbose=False)


class CachePass(LightningModule):
    """Runs the teacher on every sequence that is not stored yet.

    Args:
        module: a `kdlight.DistillationModule`.
        writer: stores the logits.
    """

    def __init__(self, module: Any, writer: CacheWriter) -> None:
        super().__init__()
        self._parts = (module, writer)  # in a tuple: a child module would move the student, too

    def setup(self, stage: str) -> None:
        """Move the teacher to its device."""
        self._parts[0].teacher.prepare(self.trainer.strategy.root_device)

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Store the rows of a batch that are not stored yet."""
        module, writer = self._parts
        rows = writer.new_rows(batch)
        if rows:
            source = as_source(module.teacher_logits(batch))
            writer.add(rows, source, self._mask(batch, source.shape[:-1]))

    def _mask(self, batch: Any, shape: torch.Size) -> Tensor | None:
        """Return the positions to store, of logits at ``shape``; None for all."""
        module, writer = self._parts
        layout = writer.manifest.layout
        expected = layout.shape(batch, shape[0])
        if shape != expected:
            raise ValueError(
                f"the teacher's logits stand at {tuple(shape)} positions of this batch, but"
                f" {tuple(expected)} were expected from the first batch, where they stand at the"
                f" {layout.place}; a cache needs batches of one kind"
            )
        labels, valid = module.aligned_labels(batch), layout.valid_positions(batch)
        mask = None if labels is None else labels.cpu() != IGNORE_INDEX
        # a module may have labels of its own; a reader knows those of the batch only
        masks = [each for each in (mask, valid) if each is not None and each.shape == shape]
        return torch.stack(masks).any(0) if masks else None

    def on_test_end(self) -> None:
        """Write the last shard; after all ranks have, mark the cache as complete."""
        module, writer = self._parts
        writer.flush()
        self.trainer.strategy.barrier()
        if self.trainer.is_global_zero:
            complete(writer.folder, writer.manifest)
        module.teacher.release()


class _AllData(LightningDataModule):
    """Training and validation data of another data module, each once."""

    def __init__(self, data: LightningDataModule) -> None:
        super().__init__()
        self.data = data

    def test_dataloader(self) -> list[DataLoader]:
        loaders = [self.data.train_dataloader(), self.data.val_dataloader()]
        return [loader for loader in loaders if not is_empty(loader)]
