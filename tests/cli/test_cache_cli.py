"""A cache is written without a training run, and its folder is tried before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdlight.cli import main
from kdlight.cli.cache_cli import CacheCLI
from tests.support.config_runs import DIGITS


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.argv", ["kdlight"])
    monkeypatch.chdir(tmp_path)


def test_nothing_of_a_training_run_is_created() -> None:
    made = CacheCLI(["--config", DIGITS, "--output=out"], run=False, save_config_callback=None)
    assert made.trainer.loggers == []
    assert made.trainer.checkpoint_callbacks == []
    assert made.config["bits"] == 8


def test_a_folder_that_cannot_be_written_to_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as stop:
        main(["cache", "--config", DIGITS, "--trainer.accelerator=cpu", "--output=file/out"])
    assert stop.value.code == 2
    errors = capsys.readouterr().err
    assert "cannot write to 'file/out'" in errors[errors.index("error:") :]
