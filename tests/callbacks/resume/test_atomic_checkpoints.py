"""Checkpoints that are complete or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.strategies import SingleDeviceStrategy

from kdlight.callbacks.resume.atomic_checkpoints import make_checkpoints_atomic


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


def test_a_strategy_is_changed_once(strategy: WritesFolder) -> None:
    save = strategy.save_checkpoint
    make_checkpoints_atomic(strategy)
    assert strategy.save_checkpoint is save
