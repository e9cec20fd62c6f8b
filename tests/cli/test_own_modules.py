"""The command line takes a module of one's own that has the mixin: fit, resume, doctor, export."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kdlight.cli import main
from tests.support.exports import save_tiny_model

CLASS = "tests.support.distilled_module.Distilled"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a language model of three layers, and of some text."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def options(tiny: Path, folder: Path) -> list[str]:
    trainer = {
        "max_steps": 2,
        "accelerator": "cpu",
        "devices": 1,
        "enable_progress_bar": "false",
        "enable_model_summary": "false",
        "limit_val_batches": 1,
        "num_sanity_val_steps": 0,
        "logger": "false",
        "default_root_dir": folder,
    }
    return [
        "--seed_everything=0",
        f"--model={CLASS}",
        f"--model.source={tiny}",
        "--data=TextDataModule",
        f"--data.tokenizer={tiny}",
        f"--data.files={tiny / 'text.jsonl'}",
        "--data.block_size=32",
        "--data.batch_size=2",
        *(f"--trainer.{name}={value}" for name, value in trainer.items()),
    ]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.argv", ["kdlight"])
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def run(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, with a checkpoint and the exported network."""
    folder = tmp_path_factory.mktemp("run")
    export = "--trainer.callbacks=ExportStudent"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["kdlight"])
        patch.chdir(folder)
        main(["fit", *options(tiny, folder), export])
    return folder


def checkpoint(run: Path) -> Path:
    (path,) = run.rglob("*.ckpt")
    return path


def test_its_checkpoint_has_its_config_and_no_teacher(run: Path, tiny: Path) -> None:
    saved = torch.load(checkpoint(run), weights_only=True)
    assert saved["hyper_parameters"]["_class_path"] == CLASS
    assert saved["hyper_parameters"]["source"] == str(tiny)
    assert {name.split(".")[0] for name in saved["state_dict"]} == {"net"}


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    assert stop.value.code == 2
    errors = capsys.readouterr().err
    return errors[errors.index("error:") :]


def test_it_is_resumed_and_a_conflict_is_named(
    run: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resumed = ["fit", *options(tiny, tmp_path), "--ckpt_path", str(checkpoint(run))]
    error = refused(capsys, *resumed, "--model.temperature=3")
    assert "model.temperature: 2.0 in the checkpoint, 3.0 given" in error
    main([*resumed, "--trainer.max_steps=4"])
    assert torch.load(checkpoint(tmp_path), weights_only=True)["global_step"] == 4


def test_its_model_is_chosen_from_the_checkpoint(run: Path, tiny: Path, tmp_path: Path) -> None:
    more = ["--model.temperature=3", "--on_conflict=checkpoint", "--trainer.max_steps=3"]
    main(["fit", *options(tiny, tmp_path), "--ckpt_path", str(checkpoint(run)), *more])
    saved = torch.load(checkpoint(tmp_path), weights_only=True)
    assert saved["hyper_parameters"]["temperature"] == 2.0


def test_the_doctor_examines_it(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["doctor", *options(tiny, tmp_path)])
    printed = capsys.readouterr().out
    assert "student    LlamaForCausalLM" in printed
    assert "objective  ForwardKL" in printed
    assert "this run can start" in printed


def test_its_network_is_exported_if_its_class_is_trusted(
    run: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", f"--ckpt_path={checkpoint(run)}", f"--output={tmp_path / 'out'}"]
    error = refused(capsys, *arguments)
    assert f"would run code that it names: _class_path: {CLASS}. If you know" in error
    assert not (tmp_path / "out").exists()
    main([*arguments, "--trust", f"--tokenizer={tiny}"])
    exported = load_file(tmp_path / "out" / "model.safetensors")
    at_the_end = load_file(run / "student" / "model.safetensors")
    trained = torch.load(checkpoint(run), weights_only=True)["state_dict"]
    assert exported.keys() == at_the_end.keys()
    for name, weight in exported.items():
        assert torch.equal(weight, at_the_end[name])
        assert torch.equal(weight, trained[f"net.{name}"])
