"""Training data that are missing, or too few for a batch or an optimizer step."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from kdlight.doctor import examine
from tests.support import toy
from tests.support.config_runs import tiny
from tests.support.doctor_runs import quickstart

__all__ = ["tiny"]  # the fixture


@pytest.fixture(autouse=True)
def _like_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["kdlight"])


def test_files_that_are_not_there(
    tiny: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, printed = quickstart(capsys, tiny, "--data.files=nowhere.txt")
    assert code == 1
    assert "error: the training data cannot be opened" in printed
    assert "nowhere.txt" in printed


def test_less_data_than_a_batch_that_must_be_full(tmp_path: Path) -> None:
    class Full(toy.RaggedModule):
        def train_dataloader(self) -> DataLoader:
            return DataLoader(self.data, self.batch_size, collate_fn=self.collate, drop_last=True)

    report = examine(toy.module(), Full(16, count=15), toy.trainer(tmp_path))
    assert report.errors == ["the training data have no batch: less than one, with drop_last?"]
    assert report.warnings[0].startswith("the training data have 15 samples, less than one batch")
