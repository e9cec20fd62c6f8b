"""A checkpoint is checked however it is named: it is found as Lightning finds it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch

from kdlight.cli import main
from kdlight.cli.checkpoint_paths import is_name, is_remote, local_path, resolve
from tests.support import toy
from tests.support.config_runs import DIGITS, QUICK

SAVES = [
    "--trainer.enable_checkpointing=true",
    "--trainer.callbacks=ModelCheckpoint",
    "--trainer.callbacks.dirpath=kept",
    "--trainer.callbacks.save_last=true",
]
QUICKLY = [each for each in QUICK if "callbacks" not in each]
COLDER = ["--model.objective.temperature", "2"]


def fit(*more: str) -> None:
    main(["fit", "--config", DIGITS, *QUICKLY, *SAVES, *more])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run at temperature 4, with the checkpoint under several names."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["kdlight"])
        patch.chdir(folder)
        fit()
    (folder / "12:30").mkdir()
    last = folder / "kept" / "last.ckpt"
    for name in ("12:30/a.ckpt", "hpc_ckpt_1.ckpt", "registry.ckpt"):
        shutil.copy(last, folder / name)
    with fsspec.open("memory://kept/a.ckpt", "wb") as file:
        file.write(last.read_bytes())  # type: ignore[union-attr]
    return folder


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr("sys.argv", ["kdlight"])
    monkeypatch.chdir(folder)


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as stop:
        fit(*args)
    assert stop.value.code == 2
    errors = capsys.readouterr().err
    return errors[errors.index("error:") :]


WAYS = {
    "path": "kept/last.ckpt",
    "last": "last",
    "hpc": "hpc",
    "colon": "12:30/a.ckpt",
    "file URL": "file://{folder}/kept/last.ckpt",
    "remote URL": "memory://kept/a.ckpt",
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_other_hyper_parameters_stop_the_run(
    way: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(capsys, *COLDER, "--ckpt_path", way.format(folder=folder))
    assert "model.objective.temperature: 4.0 in the checkpoint, 2.0 given" in error
    assert len(error.strip().splitlines()) == 2


def test_a_job_that_slurm_restarts_is_checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lightning then finds the checkpoint of the preemption without ``--ckpt_path``."""
    monkeypatch.setattr(
        "lightning.pytorch.trainer.connectors.checkpoint_connector.SLURMEnvironment.detect",
        lambda: True,
    )
    error = refused(capsys, *COLDER)
    assert "model.objective.temperature: 4.0 in the checkpoint, 2.0 given" in error


@pytest.mark.parametrize("way", ["last", "hpc", "12:30/a.ckpt"])
@pytest.mark.parametrize(("choice", "temperature"), [("checkpoint", 4.0), ("command_line", 2.0)])
def test_an_option_decides(
    way: str, choice: str, temperature: float, folder: Path, tmp_path: Path
) -> None:
    # Lightning looks for "hpc" in the root folder
    root = folder if way == "hpc" else tmp_path
    more = ["--trainer.max_epochs=2", f"--trainer.default_root_dir={root}"]
    before = torch.load("kept/last.ckpt", weights_only=True)
    main(
        ["fit", "--config", DIGITS, *QUICKLY, *SAVES[:1], *COLDER, *more]
        + ["--trainer.callbacks=ModelCheckpoint", "--trainer.callbacks.dirpath=kept"]
        + [f"--trainer.callbacks.filename={tmp_path.name}", "--on_conflict", choice]
        + ["--ckpt_path", way]
    )
    saved = torch.load(f"kept/{tmp_path.name}.ckpt", weights_only=True)
    assert saved["hyper_parameters"]["objective"]["init_args"]["temperature"] == temperature
    assert saved["global_step"] == 2 * before["global_step"]  # it was resumed


def test_without_a_conflict_the_last_one_is_resumed(folder: Path) -> None:
    fit("--ckpt_path", "last")


def test_a_name_without_a_checkpoint_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(capsys, "--ckpt_path", "best")
    assert 'ckpt_path="best"' in error
    assert len(error.strip().splitlines()) == 1
    error = refused(capsys, "--ckpt_path", "memory://nowhere.ckpt")
    assert "memory://nowhere.ckpt" in error


@pytest.mark.parametrize(
    ("text", "names"),
    [("registry", True), ("REGISTRY:a", True), ("registry.ckpt", False), ("hpc", True)],
)
def test_names_are_those_of_lightning(text: str, names: bool) -> None:
    assert is_name(text) == names


def test_resolving_changes_nothing(tmp_path: Path) -> None:
    trainer = toy.trainer(tmp_path)
    before = trainer.state.fn
    assert resolve(trainer, "fit", "last") is None
    assert resolve(trainer, "validate", "a/b.ckpt") == "a/b.ckpt"
    assert trainer.state.fn == before


def test_a_folder_of_deepspeed_is_not_compared_and_said_so(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="is a folder that is not compared"):
        assert local_path(tmp_path) is None


@pytest.mark.parametrize("path", ["a:b", "C:\\a.ckpt", "file:///a.ckpt"])
def test_a_path_is_not_remote(path: Any) -> None:
    assert not is_remote(path)
