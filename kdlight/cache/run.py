"""The one pass of a teacher over the data, on as many ranks as the trainer has."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch.utils.data import DataLoader

from kdlight.cache.fingerprints import (
    fingerprint_template,
    fingerprint_tokenizer,
    fingerprint_weights,
)
from kdlight.cache.folder import complete, prepare_folder
from kdlight.cache.manifest import Manifest
from kdlight.cache.settings import Settings
from kdlight.cache.size import is_empty, say_size
from kdlight.cache.writer import CacheWriter
from kdlight.data.targets import IGNORE
from kdlight.sources import as_source
from kdlight.teachers import frozen_teachers


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
    """Let the teacher of ``module`` answer all training and validation data, once.

    What was written before is not asked again: a run that was interrupted goes on.

    Args:
        module: a `kdlight.DistillationModule`; its student is not used.
        data: what a run will train and validate on.
        trainer: devices and precision; its callbacks and limits should be those of no training.
        output: folder, empty or with a cache of the same that is not complete.
        settings: how much is kept.
        shard_positions: positions of a shard.
        names: of teacher and data, in words.

    Raises:
        ValueError: a folder that holds something else, no teacher, or no room on the disk.
    """
    folder = Path(output)
    data.trainer = trainer
    data.prepare_data()
    data.setup("fit")
    manifest = _manifest(module, data, settings, names or {})
    if trainer.is_global_zero:
        prepare_folder(folder, manifest)
        say_size(data, manifest, folder)
    writer = CacheWriter(folder, manifest, shard_positions=shard_positions)
    with warnings.catch_warnings():
        # a sample that comes up twice is stored once, and the order does not matter
        warnings.filterwarnings("ignore", ".*it is (strongly )?recommended.*")
        # not predict(), which makes each loader anew, and not every loader lets itself be
        trainer.test(CachePass(module, writer), datamodule=_All(data), verbose=False)


class CachePass(LightningModule):
    """Asks the teacher for every sequence that is not stored yet."""

    def __init__(self, module: Any, writer: CacheWriter) -> None:
        super().__init__()
        self._parts = (module, writer)  # not a child: a student has nothing to do on a device

    def setup(self, stage: str) -> None:
        """Bring the teacher to its device."""
        self._parts[0].teacher.prepare(self.trainer.strategy.root_device)

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Store what is new in a batch."""
        module, writer = self._parts
        rows = writer.new_rows(batch)
        if rows:
            labels = module.labels(batch)
            mask = None if labels is None else labels != IGNORE
            source = as_source(module.teacher_logits(batch))
            if mask is not None and mask.shape != source.shape[:-1]:
                mask = None
            writer.add(rows, source, mask)

    def on_test_end(self) -> None:
        """Write what is left; when all ranks have, the cache is complete."""
        _, writer = self._parts
        writer.flush()
        self.trainer.strategy.barrier()
        if self.trainer.is_global_zero:
            complete(writer.folder, writer.manifest)
        self._parts[0].teacher.release()


class _All(LightningDataModule):
    """Training and validation data of another data module, each once."""

    def __init__(self, data: LightningDataModule) -> None:
        super().__init__()
        self.data = data

    def test_dataloader(self) -> list[DataLoader]:
        loaders = [self.data.train_dataloader(), self.data.val_dataloader()]
        return [loader for loader in loaders if not is_empty(loader)]


def _manifest(
    module: Any, data: LightningDataModule, settings: Settings, names: dict[str, Any]
) -> Manifest:
    settings.check()
    if module.teacher is None:
        raise ValueError("there is no teacher to run: the config has teacher: null")
    live = frozen_teachers(module.teacher)
    if not live:
        raise ValueError(
            f"the teacher is a {type(module.teacher).__name__}, and only a live one has answers"
            " that are worth writing down"
        )
    tempered = [each.temperature for each in live if each.temperature != 1]
    if tempered:
        raise ValueError(
            f"the teacher has temperature {tempered[0]}; a cache holds answers at 1, give the"
            " temperature to the CachedTeacher"
        )
    tokenizer = getattr(data, "tokenizer", None)
    vocabulary, per_token = _shape(module, data)
    return Manifest(
        teacher={
            "name": names.get("teacher", type(live[0].model).__name__),
            "weights": fingerprint_weights([each.model for each in live]),
        },
        tokenizer={
            "vocabulary": fingerprint_tokenizer(tokenizer),
            "template": fingerprint_template(tokenizer),
        },
        data={"name": names.get("data", type(data).__name__)},
        vocabulary=vocabulary,
        settings=settings._asdict(),
        per_token=per_token,
    )


def _shape(module: Any, data: LightningDataModule) -> tuple[int, bool]:
    """The vocabulary, and whether rows have many positions: asked of a single row."""
    batch = next(iter(data.train_dataloader()))
    if isinstance(batch, Mapping):  # a tokenizer's is no dict
        one = {name: value[:1] for name, value in batch.items()}
    else:
        one = batch[:1] if hasattr(batch, "shape") else [value[:1] for value in batch]
    shape = as_source(module.teacher_logits(one)).shape
    return shape[-1], len(shape) > 2
