"""A student is exported from a checkpoint of any kind."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.state_dict_saver import save

from tests.support.exports import check_student, checkpoint, command, export, refused, same
from tests.support.rank_scripts import run_script
from tests.support.saved_run import flip


def test_the_callback_saves_a_whole_folder(run: Path, tiny: Path) -> None:
    check_student(run / "student", tiny)


def test_a_checkpoint_holds_the_same_student(run: Path, tiny: Path, tmp_path: Path) -> None:
    export(checkpoint(run), tmp_path / "out")
    check_student(tmp_path / "out", tiny)
    assert same(tmp_path / "out", run / "student")


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled, unavailable or uninitialized")
def test_shards_and_shards_put_together(run: Path, tiny: Path, tmp_path: Path) -> None:
    from lightning.fabric.utilities.load import _load_distributed_checkpoint

    facts = torch.load(checkpoint(run), weights_only=True)
    state = {"state_dict": facts.pop("state_dict")}
    save(state, checkpoint_id=tmp_path / "shards", no_dist=True)
    torch.save(facts, tmp_path / "shards" / "meta.pt")
    export(tmp_path / "shards", tmp_path / "one")
    # what `python -m lightning.fabric.utilities.consolidate_checkpoint` does
    torch.save(_load_distributed_checkpoint(tmp_path / "shards"), tmp_path / "together.ckpt")
    export(tmp_path / "together.ckpt", tmp_path / "two")
    for folder in (tmp_path / "one", tmp_path / "two"):
        check_student(folder, tiny)
        assert same(folder, run / "student")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp.yaml", "fsdp2.yaml"])
def test_two_processes_export_what_their_checkpoint_holds(
    strategy: str, tiny: Path, tmp_path: Path
) -> None:
    run_script("kdlight.cli", *command(tiny, tmp_path / "run", strategy))
    path = checkpoint(tmp_path / "run")
    assert path.is_dir() == (strategy == "fsdp2.yaml")
    check_student(tmp_path / "run" / "student", tiny)
    export(path, tmp_path / "out")
    check_student(tmp_path / "out", tiny)
    assert same(tmp_path / "out", tmp_path / "run" / "student")


def test_a_model_is_not_overwritten(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").touch()
    error = refused(capsys, checkpoint(run), tmp_path)
    assert "already holds a model" in error
    export(checkpoint(run), tmp_path, "--overwrite", "true")
    assert (tmp_path / "model.safetensors").exists()


def test_a_tokenizer_can_be_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(capsys, checkpoint(run), tmp_path / "out", "--tokenizer", "./nope")
    assert "'./nope' does not exist" in error


def test_a_checkpoint_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(capsys, tmp_path / "nope.ckpt", tmp_path / "out")
    assert "nope.ckpt' does not exist" in error


def test_a_directory_that_cannot_be_written_to_is_found_at_once(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    error = refused(capsys, tmp_path / "not read.ckpt", tmp_path / "file" / "out")
    assert "cannot write to" in error


def test_a_damaged_checkpoint_is_not_exported(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "damaged.ckpt"
    shutil.copy(checkpoint(run), path)
    weights = torch.load(path, weights_only=True)["state_dict"]
    bits = next(iter(weights.values())).numpy().tobytes()
    flip(path, 8 * path.read_bytes().index(bits))
    assert "damaged.ckpt' is damaged" in refused(capsys, path, tmp_path / "out")
