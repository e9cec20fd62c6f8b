"""Folders that cannot be written to are found without leaving anything in those that can."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch.callbacks import ModelCheckpoint

from kdlight.callbacks import ExportStudent, Preemption
from kdlight.doctor.output_checks import check_outputs
from tests.support import toy


def test_each_folder_is_tried(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    below = str(tmp_path / "file" / "a")
    callbacks = [ModelCheckpoint(dirpath=below), ExportStudent(below), Preemption(below)]
    run = toy.trainer(tmp_path, callbacks=callbacks, enable_checkpointing=True)
    texts = [finding.text for finding in check_outputs(run)]
    assert len(texts) == 3
    assert all("cannot write to" in text for text in texts)
    assert texts[1].startswith("ExportStudent ")
    assert {finding.level for finding in check_outputs(run)} == {"error"}


def test_nothing_is_left(tmp_path: Path) -> None:
    callbacks = [ExportStudent(str(tmp_path / "a" / "student")), Preemption()]
    assert list(check_outputs(toy.trainer(tmp_path / "run", callbacks=callbacks))) == []
    assert list(tmp_path.iterdir()) == []
