"""Conflicts between the model of a checkpoint and that of the command line."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from kdlight.cli import main
from kdlight.cli.checkpoint_conflicts import (
    OnConflict,
    check_checkpoint_weights,
    describe_conflicts,
    differences,
    model_config,
)
from tests.support import toy
from tests.support.config_runs import DIGITS, QUICK
from tests.support.saved_run import cut

SAVED = {"class_path": "Module", "init_args": {"chunked": False, "net": {"class_path": "A"}}}


def test_equal_configs_have_no_differences() -> None:
    assert list(differences(SAVED, {**SAVED})) == []


def test_options_are_equal_wherever_they_are_given() -> None:
    current = {"class_path": "Module", "dict_kwargs": SAVED["init_args"]}
    assert list(differences(SAVED, current)) == []


def test_a_difference_is_spelled_as_on_the_command_line() -> None:
    current = {"class_path": "Module", "init_args": {"net": {"class_path": "B"}, "lr": 0.1}}
    assert sorted(differences(SAVED, current)) == [
        ("model.chunked", False, None),
        ("model.lr", None, 0.1),
        ("model.net", "A", "B"),
    ]


def test_a_module_that_was_created_in_python_has_no_config() -> None:
    assert model_config({"temperature": 1.0}) is None
    options = {"_class_path": "Module", "_instantiator": "x", "lr": 0.1}
    assert model_config(options) == {"class_path": "Module", "init_args": {"lr": 0.1}}


@pytest.mark.parametrize(
    ("on_conflict", "note"), [("error", True), ("checkpoint", False), ("command_line", True)]
)
def test_the_optimizer_state_is_mentioned_where_its_lr_differs(
    on_conflict: OnConflict, note: bool
) -> None:
    message = describe_conflicts([("model.optimizer.lr", 0.1, 0.2)], on_conflict=on_conflict)
    assert "  model.optimizer.lr: 0.1 in the checkpoint, 0.2 given" in message
    assert ("optimizer state" in message) == note
    other = describe_conflicts([("model.temperature", 1, 2)], on_conflict=on_conflict)
    assert "optimizer state" not in other


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    trainer = toy.trainer(tmp_path)
    module = toy.module()
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)
    check_checkpoint_weights(module, str(path))
    check_checkpoint_weights(module, None)
    module.student.extra = nn.Linear(2, 3)
    with pytest.raises(ValueError, match=r"student\.extra"):
        check_checkpoint_weights(module, str(path))
    assert torch.load(path, weights_only=True)["state_dict"]


# ---- runs of the command line


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint that the command line has written, at temperature 4."""
    folder = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["kdlight"])
        patch.chdir(folder)
        main(["fit", "--config", DIGITS, *QUICK])
    (path,) = folder.rglob("*.ckpt")
    return str(path)


@pytest.fixture
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.argv", ["kdlight"])
    monkeypatch.chdir(tmp_path)


COLDER = ["--model.objective.temperature", "2"]


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", DIGITS, *QUICK, *args])
    assert stop.value.code == 2
    errors = capsys.readouterr().err
    return errors[errors.index("error:") :]


@pytest.mark.usefixtures("_alone")
def test_a_conflict_is_named_and_stops_the_run(
    digits: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(capsys, "--ckpt_path", digits, *COLDER)
    assert "model.objective.temperature: 4.0 in the checkpoint, 2.0 given" in error
    assert "--on_conflict checkpoint or --on_conflict command_line" in error
    assert len(error.strip().splitlines()) == 2


@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize(("choice", "temperature"), [("checkpoint", 4.0), ("command_line", 2.0)])
def test_an_option_decides(
    choice: str, temperature: float, digits: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    more = ["--trainer.max_epochs", "2", f"--trainer.default_root_dir={tmp_path}"]
    with caplog.at_level("INFO"):
        main(
            ["fit", "--config", DIGITS, *QUICK, *COLDER, *more]
            + ["--ckpt_path", digits, "--on_conflict", choice]
        )
    who = f"the {choice.replace('_', ' ')} is used"
    assert who in caplog.text
    assert "model.objective.temperature: 4.0 in the checkpoint, 2.0 given" in caplog.text
    (path,) = tmp_path.rglob("*.ckpt")
    saved = torch.load(path, weights_only=True)["hyper_parameters"]["objective"]
    assert saved["init_args"]["temperature"] == temperature


@pytest.mark.usefixtures("_alone")
def test_without_a_conflict_the_run_is_resumed(digits: str, tmp_path: Path) -> None:
    main(["fit", "--config", DIGITS, *QUICK, "--ckpt_path", digits])


@pytest.mark.usefixtures("_alone")
def test_a_checkpoint_that_does_not_fit_is_one_clear_error(
    digits: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wider = ["--model.student.net.width", "9", "--on_conflict", "command_line"]
    error = refused(capsys, "--ckpt_path", digits, *wider)
    assert re.search(r"student.net.hidden.weight \(8, 64\) in the checkpoint, \(9, 64\)", error)
    assert "'nope.ckpt' does not exist" in refused(capsys, "--ckpt_path", "nope.ckpt")
    half = tmp_path / "half.ckpt"
    shutil.copy(digits, half)
    cut(half)
    assert "is incomplete" in refused(capsys, "--ckpt_path", str(half))


@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize("choice", ["error", "checkpoint", "command_line"])
def test_code_that_a_checkpoint_names_is_not_imported(
    choice: str,
    digits: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil.py").write_text("from pathlib import Path; Path('ran').touch()")
    content = torch.load(digits, weights_only=True)
    content["hyper_parameters"]["student"] = {"class_path": "evil.Net"}
    torch.save(content, tmp_path / "forged.ckpt")
    args = ["--ckpt_path", str(tmp_path / "forged.ckpt"), "--on_conflict", choice]
    if choice == "command_line":
        main(["fit", "--config", DIGITS, *QUICK, *args])
    else:
        error = refused(capsys, *args)
        assert "evil.Net" in error
        assert ("add --trust" in error) == (choice == "checkpoint")
    assert not (tmp_path / "ran").exists()
