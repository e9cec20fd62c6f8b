"""The validation batches of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback

from kdlight import DistillationModule
from kdlight.callbacks.inference.batches import validation_batches
from kdlight.objectives import CrossEntropy
from tests.support import toy


class Collect(Callback):
    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        batches = validation_batches(trainer, pl_module)
        self.shapes = [tuple(batch["input_ids"].shape) for batch in batches]


class SeveralLoaders(DistillationModule):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        pass


def collect(folder: Path, validation: Any, **options: Any) -> list[tuple[int, ...]]:
    callback = Collect()
    trainer = toy.trainer(folder, callbacks=[callback], max_steps=1, **options)
    module = SeveralLoaders(toy.ToyLM(), CrossEntropy())
    trainer.fit(module, toy.loader(8), validation)
    return callback.shapes


def test_all_loaders_are_read_up_to_their_limit(tmp_path: Path) -> None:
    loaders = [toy.loader(8), toy.loader(16)]
    shapes = [tuple(batch["input_ids"].shape) for loader in loaders for batch in loader]
    assert collect(tmp_path, loaders) == shapes
    assert collect(tmp_path, loaders, limit_val_batches=1) == [shapes[0], shapes[4]]


def test_a_run_without_validation_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no validation data to report on"):
        collect(tmp_path, None)
