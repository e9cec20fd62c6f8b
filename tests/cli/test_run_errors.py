"""Errors of a run's set-up and of kdlight's checks are one line; others have a traceback."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback

from kdlight.cli import main
from kdlight.cli.run_errors import one_line_run_errors
from kdlight.objectives import ForwardKL
from tests.support import toy
from tests.support.config_runs import DIGITS, QUICK


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.argv", ["kdlight"])
    monkeypatch.chdir(tmp_path)


BAD = {
    "no accumulation": (["--trainer.accumulate_grad_batches=0"], "accumulate_grad_batches|Zero"),
    "a negative rate": (["--model.optimizer.lr=-1"], "learning rate: -1"),
    "negative workers": (["--data.num_workers=-1"], "num_workers|unrecognized"),
    "a huge seed": (["--seed_everything=99999999999999"], "seed"),
    "an unknown device": (["--trainer.accelerator=xx"], "xx"),
    "unknown devices": (["--trainer.devices=xx"], "xx"),
    "a callback": (['--trainer.callbacks=[{"class_path":"ExportStudent"}]'], "save_pretrained"),
    "no folder": (["--trainer.default_root_dir=/proc/nowhere"], "/proc/nowhere"),
}


@pytest.mark.parametrize(("args", "message"), BAD.values(), ids=BAD)
def test_an_error_of_the_set_up_is_one_line(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [each for each in QUICK if each.split("=")[0] not in {a.split("=")[0] for a in args}]
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", DIGITS, *options, *args])
    assert stop.value.code == 2
    errors = capsys.readouterr().err
    lines = errors[errors.index("error:") :].strip().splitlines()
    assert len(lines) <= 2
    assert re.search(message, lines[0])


@pytest.mark.parametrize("way", ["option", "variable"])
def test_the_traceback_can_be_shown(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    more = ["--traceback"] if way == "option" else []
    if way == "variable":
        monkeypatch.setenv("KDLIGHT_TRACEBACK", "1")
    with pytest.raises(ValueError, match="learning rate: -1"):
        main(["fit", "--config", DIGITS, *QUICK, "--model.optimizer.lr=-1", *more])


class Fails(Callback):
    """Raises an error in the middle of training."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def on_train_batch_end(self, *args: Any) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "one_line"),
    [(OSError(28, "No space left on device"), True), (ValueError("a bug"), False)],
    ids=["disk full", "a bug"],
)
def test_a_bug_has_a_traceback(
    error: Exception, one_line: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = toy.trainer(tmp_path, callbacks=[Fails(error)])
    expected: Any = SystemExit if one_line else ValueError
    with pytest.raises(expected), one_line_run_errors(trainer):
        trainer.fit(toy.module(ForwardKL()), toy.loader(8))
    assert ("error: [Errno 28] No space left" in capsys.readouterr().err) == one_line


def test_a_loss_that_is_not_finite_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", DIGITS, *QUICK, "--model.optimizer.lr=1e30"])
    assert stop.value.code == 2
    assert "is nan" in capsys.readouterr().err


def test_the_flag_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ([], ["export"], ["cache"], ["doctor"]):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        assert "--traceback" in capsys.readouterr().out
