"""An error of writing names the checkpoint."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import TorchCheckpointIO

from kdlight.checkpoints import name_failed_writes
from tests.support import toy


class FullDisk(TorchCheckpointIO):
    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")


def test_the_path_and_the_free_space_are_named(tmp_path: Path) -> None:
    run = toy.trainer(
        tmp_path,
        plugins=[FullDisk()],
        enable_checkpointing=True,
        callbacks=[ModelCheckpoint(every_n_train_steps=1)],
    )
    name_failed_writes(run)
    message = r"checkpoint '.*step=1.ckpt' cannot be written: No space left on device \(.* GB free"
    with pytest.raises(OSError, match=message):
        run.fit(toy.module(), toy.loader(8))


def test_a_trainer_with_it_can_be_pickled(tmp_path: Path) -> None:
    run = toy.trainer(tmp_path)
    name_failed_writes(run)
    copied = pickle.loads(pickle.dumps(run))
    assert copied.save_checkpoint.args[0] is copied
