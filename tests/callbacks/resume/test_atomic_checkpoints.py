"""Checkpoints that are complete or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.strategies import SingleDeviceStrategy

from kdlight.callbacks import ExactResume
from kdlight.callbacks.resume.atomic_checkpoints import make_checkpoints_atomic
from kdlight.checkpoints import read_checkpoint
from kdlight.objectives import ForwardKL
from tests.support import resume_fit, toy
from tests.support.saved_run import cut


class WritesFolder(SingleDeviceStrategy):
    """Writes a folder with one file, or fails in the middle of it."""

    fail = False

    def save_checkpoint(self, checkpoint: Any, filepath: Any, storage_options: Any = None) -> None:
        Path(filepath).mkdir()
        (Path(filepath) / checkpoint["name"]).write_text("content")
        if self.fail:
            raise OSError("no space left")


@pytest.fixture
def strategy() -> WritesFolder:
    made = WritesFolder(device="cpu")  # type: ignore[arg-type]
    make_checkpoints_atomic(made)
    return made


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_replaces_an_older_one(strategy: WritesFolder, tmp_path: Path) -> None:
    for name in ("first", "second"):
        strategy.save_checkpoint({"name": name}, tmp_path / "a.ckpt")
        assert names(tmp_path) == [f"a.ckpt/{name}"]


def test_the_older_one_is_kept_if_writing_fails(strategy: WritesFolder, tmp_path: Path) -> None:
    strategy.save_checkpoint({"name": "first"}, tmp_path / "a.ckpt")
    strategy.fail = True
    with pytest.raises(OSError, match="no space left"):
        strategy.save_checkpoint({"name": "second"}, tmp_path / "a.ckpt")
    assert names(tmp_path / "a.ckpt") == ["first"]
    strategy.fail = False
    strategy.save_checkpoint({"name": "third"}, tmp_path / "a.ckpt")
    assert names(tmp_path) == ["a.ckpt/third"]


def test_a_strategy_is_changed_once(strategy: WritesFolder, tmp_path: Path) -> None:
    make_checkpoints_atomic(strategy)
    strategy.save_checkpoint({"name": "first"}, tmp_path / "a.ckpt")
    assert names(tmp_path) == ["a.ckpt/first"]


def test_what_could_not_be_written_is_named_and_removed(
    strategy: WritesFolder, tmp_path: Path
) -> None:
    strategy.fail = True
    with pytest.raises(OSError, match=r"checkpoint '.*a.ckpt' cannot be written: no space left"):
        strategy.save_checkpoint({"name": "first"}, tmp_path / "a.ckpt")
    assert names(tmp_path) == []


class FullDisk(TorchCheckpointIO):
    """Writes half of the second checkpoint."""

    def __init__(self) -> None:
        self.written = 0

    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        super().save_checkpoint(checkpoint, path)
        self.written += 1
        if self.written == 2:
            cut(Path(path))
            raise OSError("no space left")


def test_a_checkpoint_is_replaced_by_a_whole_one_or_not_at_all(tmp_path: Path) -> None:
    run = toy.trainer(
        tmp_path, limit_train_batches=1, plugins=[FullDisk()], callbacks=[ExactResume()]
    )
    data = resume_fit.NoisyData(4)
    run.fit(toy.module(ForwardKL(), labels="causal"), data)
    path = tmp_path / "last.ckpt"
    run.save_checkpoint(path)
    before = path.read_bytes()
    with pytest.raises(OSError, match="no space left"):
        run.save_checkpoint(path)
    assert path.read_bytes() == before
    run.save_checkpoint(path)
    assert read_checkpoint(path)
    assert [each.name for each in tmp_path.iterdir()] == ["last.ckpt"]
