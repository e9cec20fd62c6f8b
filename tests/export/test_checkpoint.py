"""A student is exported from a checkpoint of any kind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch.distributed.checkpoint.state_dict_saver import save

from kdlight import DistillationModule
from kdlight.cli import main
from tests.support import toy
from tests.support.exports import (
    check_student,
    checkpoint,
    command,
    same,
)
from tests.support.rank_scripts import run_script
from tests.support.saved_run import flip


def export(path: Path, output: Path, *more: str) -> None:
    main(["export", "--ckpt_path", str(path), "--output", str(output), *more])


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


def refused(capsys: pytest.CaptureFixture[str], path: Path, output: Path, *more: str) -> str:
    with pytest.raises(SystemExit) as stop:
        export(path, output, *more)
    assert stop.value.code == 2
    errors = capsys.readouterr().err
    return errors[errors.index("error:") :]


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


def fit(module: DistillationModule, folder: Path, **options: Any) -> Trainer:
    run = toy.trainer(folder, max_steps=1, **options)
    run.fit(module, toy.loader(8))
    return run


def test_a_module_made_in_python_does_not_say_how_to_build_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(toy.module(), tmp_path).save_checkpoint(tmp_path / "plain.ckpt")
    error = refused(capsys, tmp_path / "plain.ckpt", tmp_path / "out")
    assert "created in Python and not from a config" in error
    assert "kdlight.export.export_student(module.student, directory)" in error


# ---- a checkpoint from somewhere else

CODE = """
from pathlib import Path
from torch import nn
Path("ran").touch()
class Net(nn.Module): ...
"""


def forged(run: Path, folder: Path, **hyper_parameters: Any) -> Path:
    """Return the checkpoint of a run with other hyper-parameters, which are plain data."""
    content = torch.load(checkpoint(run), weights_only=True)
    content["hyper_parameters"] |= hyper_parameters
    torch.save(content, folder / "forged.ckpt")
    return folder / "forged.ckpt"


FORGED: dict[str, dict[str, Any]] = {
    "a class of the working directory": {"student": {"class_path": "evil.Net"}},
    "another module": {"_class_path": "evil.Net"},
    "a config file": {"student": "evil.yaml"},
    "code of a folder": {
        "student": {
            "class_path": "kdlight.CausalLM",
            "init_args": {"source": "./model", "options": {"trust_remote_code": True}},
        }
    },
}


@pytest.mark.parametrize("hyper_parameters", FORGED.values(), ids=FORGED)
def test_code_that_a_checkpoint_names_is_not_run(
    hyper_parameters: dict[str, Any],
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "model").mkdir()
    for name in ("evil.py", "model/modeling_evil.py"):
        (tmp_path / name).write_text(CODE)
    (tmp_path / "evil.yaml").write_text("class_path: evil.Net")
    names = {"AutoConfig": "modeling_evil.Net", "AutoModelForCausalLM": "modeling_evil.Net"}
    config = {"model_type": "evil", "auto_map": names}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    error = refused(capsys, forged(run, tmp_path, **hyper_parameters), tmp_path / "out")
    assert "the checkpoint would run code that it names: " in error
    assert "add --trust" in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()


def test_an_optimizer_is_neither_needed_nor_imported(run: Path, tmp_path: Path) -> None:
    adam = {"class_path": "somewhere.Adam"}
    export(forged(run, tmp_path, optimizer=adam), tmp_path / "out")
    assert same(tmp_path / "out", run / "student")


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
