"""The command line of a fit is parsed and examined, and nothing is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdlight.cli.preflight import check
from tests.support.config_runs import DIGITS, QUICK


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.argv", ["kdlight"])
    monkeypatch.chdir(tmp_path)


def test_nothing_is_left(tmp_path: Path) -> None:
    report = check(["--config", DIGITS, *QUICK])
    assert report.errors == []
    assert list(tmp_path.iterdir()) == []


def test_devices_that_are_not_there_are_an_error() -> None:
    report = check(["--config", DIGITS, *QUICK, "--trainer.accelerator=xx"])
    assert report.errors[0].startswith("the Trainer cannot be made here: ")


def test_a_callback_that_cannot_write_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    callback = '[{"class_path":"Preemption","init_args":{"directory":"file/a"}}]'
    report = check(["--config", DIGITS, *QUICK, f"--trainer.callbacks={callback}"])
    assert report.errors == [
        "Preemption cannot write to 'file/a': Not a directory; name another folder"
    ]
