"""Checkpoints that are incomplete, of another run, or in conflict with the command line."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins import TorchCheckpointIO
from torch.distributed.checkpoint.state_dict_saver import save

from kdlight.callbacks import ExactResume
from kdlight.checkpoints import read_checkpoint, weight_shapes
from kdlight.cli import main
from kdlight.objectives import ForwardKL, LearnableTemperature
from tests.support import resume_fit, toy
from tests.support.config_runs import DIGITS, QUICK


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a short run."""
    folder = tmp_path_factory.mktemp("saved")
    run = toy.trainer(folder, limit_train_batches=1)
    run.fit(toy.module(ForwardKL()), toy.loader(8))
    run.save_checkpoint(folder / "whole.ckpt")
    return folder / "whole.ckpt"


def sharded(checkpoint: Path, folder: Path) -> Path:
    """The same as a folder of shards, as FSDP2 writes it."""
    facts = torch.load(checkpoint, weights_only=True)
    save({"state_dict": facts.pop("state_dict")}, checkpoint_id=folder, no_dist=True)
    torch.save(facts, folder / "meta.pt")
    return folder


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled, unavailable or uninitialized")
def test_a_folder_of_shards_reads_as_a_file_does(saved: Path, tmp_path: Path) -> None:
    a, b = read_checkpoint(saved), read_checkpoint(sharded(saved, tmp_path / "folder"))
    assert a.keys() == b.keys()
    assert a["state_dict"].keys() == b["state_dict"].keys()
    for name, value in a["state_dict"].items():
        torch.testing.assert_close(value, b["state_dict"][name], rtol=0, atol=0)
    assert weight_shapes(saved) == weight_shapes(tmp_path / "folder")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


CUTS = {
    "end of the file": (lambda path: cut(path), "its end is missing"),
    "end of the facts": (lambda path: cut(path / "meta.pt"), "end of 'meta.pt' is missing"),
    "the facts": (lambda path: (path / "meta.pt").unlink(), "'meta.pt' is missing"),
    "end of a shard": (lambda path: cut(path / "__0_0.distcp"), "end of '__0_0.distcp' is missing"),
    "a shard": (lambda path: (path / "__0_0.distcp").unlink(), "'__0_0.distcp' is missing"),
}


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled, unavailable or uninitialized")
@pytest.mark.parametrize(("spoil", "what"), CUTS.values(), ids=CUTS)
def test_a_checkpoint_that_was_cut_short_is_refused(
    spoil: Any, what: str, saved: Path, tmp_path: Path
) -> None:
    path = tmp_path / "cut.ckpt"
    if "end of the file" in what or "its end" in what:
        shutil.copy(saved, path)
    else:
        sharded(saved, path)
    spoil(path)
    with pytest.raises(
        ValueError, match=rf"cut.ckpt' is incomplete: .*{what}.*an older checkpoint"
    ):
        read_checkpoint(path)


def test_an_incomplete_checkpoint_is_not_resumed(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.ckpt"
    shutil.copy(saved, path)
    cut(path)
    with pytest.raises(ValueError, match="is incomplete"):
        resume_fit.fit(tmp_path, [], resume=str(path))


class FullDisk(TorchCheckpointIO):
    """Writes half of the second checkpoint."""

    def __init__(self) -> None:
        self.written = 0

    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        super().save_checkpoint(checkpoint, path)
        self.written += 1
        if self.written == 2:
            cut(Path(path))
            raise OSError("no space left")


def test_a_checkpoint_is_replaced_by_a_whole_one_or_not_at_all(tmp_path: Path) -> None:
    run = toy.trainer(
        tmp_path, limit_train_batches=1, plugins=[FullDisk()], callbacks=[ExactResume()]
    )
    data = resume_fit.NoisyData(4)
    run.fit(toy.module(ForwardKL()), data)
    path = tmp_path / "last.ckpt"
    run.save_checkpoint(path)
    before = path.read_bytes()
    with pytest.raises(OSError, match="no space left"):
        run.save_checkpoint(path)
    assert path.read_bytes() == before
    run.save_checkpoint(path)
    assert read_checkpoint(path)
    assert [each.name for each in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_checkpoint_of_other_parts_names_them(saved: Path, tmp_path: Path) -> None:
    module = toy.module(LearnableTemperature(ForwardKL()))
    module.student.head = torch.nn.Linear(6, 12)
    module.teacher.model.head = torch.nn.Linear(12, 12)  # type: ignore[union-attr]
    module.student.vocab_size = module.teacher.model.vocab_size = 12  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="another student, objective or vocabulary") as error:
        toy.trainer(tmp_path).fit(module, toy.loader(8), ckpt_path=str(saved))
    message = str(error.value)
    assert "only in this run: objective." in message
    assert "student.head.weight (11, 6) in the checkpoint, (12, 6) in this run" in message
    assert "teacher" not in message


def test_another_objective_without_weights_raises_a_warning(saved: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="was trained with ForwardKL, and this run has Weighted"):
        toy.trainer(tmp_path).fit(toy.module(), toy.loader(8), ckpt_path=str(saved))


def test_a_later_format_is_refused(saved: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(saved, weights_only=True)
    assert checkpoint["kdlight"]["format"] == 1
    checkpoint["kdlight"].update(format=2, version="9.0")
    torch.save(checkpoint, tmp_path / "later.ckpt")
    with pytest.raises(ValueError, match=r"by kdlight 9.0 in format 2.*up to 1; upgrade kdlight"):
        toy.trainer(tmp_path).fit(
            toy.module(ForwardKL()), toy.loader(8), ckpt_path=str(tmp_path / "later.ckpt")
        )


# ---- the command line


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
