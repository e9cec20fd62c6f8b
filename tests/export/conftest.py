"""A tiny language model and a run of the command line, shared by the tests of exports."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdlight.cli import main
from tests.support.exports import command, save_tiny_model


@pytest.fixture(autouse=True)
def _like_a_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.argv", ["kdlight"])
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a language model of three layers, and of some text."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def run(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of the command line, with a checkpoint and a student."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["kdlight"])
        main(command(tiny, folder))
    return folder
