"""Token ids and tokenizers that do not fit each other."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from kdlight.doctor import examine
from kdlight.doctor.vocabulary_checks import check_labels
from tests.support import toy
from tests.support.config_runs import tiny
from tests.support.doctor_runs import quickstart

__all__ = ["tiny"]  # the fixture


@pytest.fixture(autouse=True)
def _like_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["kdlight"])


def test_a_tokenizer_with_other_ids(
    tiny: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """As many tokens and no word of an error in a fit: the ids only mean something else."""
    folder = tmp_path / "other"
    shutil.copytree(tiny["source"], folder)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    ids = tokenizer["model"]["vocab"]
    ids["a"], ids["b"] = ids["b"], ids["a"]
    path.write_text(json.dumps(tokenizer))
    code, printed = quickstart(capsys, tiny, "--data.tokenizer", str(folder))
    assert code == 1
    assert "error: the tokenizers of data and teacher differ: 2 tokens have other ids" in printed


def test_ids_beyond_a_vocabulary(tmp_path: Path) -> None:
    data = toy.RaggedModule(4)
    data.data.sequences[0][1] = 11
    report = examine(toy.module(), data, toy.trainer(tmp_path))
    assert any("input_ids reach 11" in text for text in report.errors), report
    assert any("labels reach 11, but the student has 11" in text for text in report.errors)


def test_labels_of_which_none_is_valid_are_a_warning() -> None:
    (found,) = check_labels(torch.tensor([-100, -100]), valid=0, classes=3)
    assert (found.level, found.text) == ("warning", "the first training batch has no valid label")
    assert list(check_labels(torch.tensor([2, -100]), valid=1, classes=3)) == []
    assert list(check_labels(None, valid=2, classes=3)) == []
