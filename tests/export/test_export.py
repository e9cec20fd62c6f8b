"""A student leaves its run: by the callback or from any checkpoint, to a plain folder."""

from __future__ import annotations

import json
import os
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict_saver import save

from kdlight import DistillationModule, SingleInput
from kdlight.callbacks import ExportStudent
from kdlight.cli import main
from kdlight.objectives import CrossEntropy
from tests.support import toy

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"


@pytest.fixture(autouse=True)
def _like_a_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.argv", ["kdlight"])
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model of a few hundred weights with a token a character, and some text."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    signs = {sign: i for i, sign in enumerate(["<end>", "<unknown>", *string.printable])}
    backend = Tokenizer(models.WordLevel(signs, unk_token="<unknown>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>").save_pretrained(folder)
    sizes = LlamaConfig(
        vocab_size=len(signs),
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        eos_token_id=0,
        bos_token_id=0,
    )
    LlamaForCausalLM(sizes).save_pretrained(folder)
    rows = [f"document {i} says " + "so " * (20 + i) for i in range(20)]
    text = "\n".join(json.dumps({"text": row}) for row in rows)
    (folder / "text.jsonl").write_text(text)
    return folder


def command(tiny: Path, folder: Path, *more: str) -> list[str]:
    """Two steps of a student of two layers, which is exported in the end."""
    export = {"class_path": "ExportStudent", "init_args": {"directory": str(folder / "student")}}
    config = ["fit", "--config", str(CONFIGS / "forward_kl.yaml")]
    for each in more:
        config += ["--config", str(CONFIGS / "strategy" / each)]
    options = {
        "model.teacher.source": tiny,
        "model.student.layers": "[0, 2]",
        "data.files": tiny / "text.jsonl",
        "data.block_size": 32,
        "data.batch_size": 2,
        "trainer.max_steps": 2,
        "trainer.val_check_interval": 1,
        "trainer.limit_val_batches": 1,
        "trainer.accelerator": "cpu",
        "trainer.devices": 2 if more else 1,
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
        "trainer.logger": "false",
        "trainer.default_root_dir": folder,
        "trainer.callbacks": json.dumps([export]),
    }
    return config + [f"--{name}={value}" for name, value in options.items()]


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def same(first: Path, second: Path) -> bool:
    a, b = weights(first), weights(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def check_student(folder: Path, tiny: Path) -> None:
    """It is read without kdlight, holds the student alone, and says where it comes from."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.num_hidden_layers == 2
    assert model.config.architectures == ["LlamaForCausalLM"]
    assert {name.split(".")[0] for name in weights(folder)} <= {"model", "lm_head"}
    assert (
        AutoTokenizer.from_pretrained(folder)("so").input_ids
        == AutoTokenizer.from_pretrained(tiny)("so").input_ids
    )
    card = (folder / "README.md").read_text()
    assert f"| teacher | `CausalLM(source='{tiny}')` |" in card
    assert "| student | `PrunedCausalLM(layers=[0, 2], dtype='float32')` |" in card
    assert "| objective | `ForwardKL(temperature=" in card
    assert "| data | `TextDataModule(" in card
    assert "| steps | `2` |" in card
    assert "| val/forward_kl |" in card


@pytest.fixture(scope="module")
def run(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of the command line, with a checkpoint and a student."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["kdlight"])
        main(command(tiny, folder))
    return folder


def checkpoint(run: Path) -> Path:
    (path,) = run.rglob("*.ckpt")
    return path


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


def launch(*args: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [sys.executable, "-m", "kdlight.cli", *args],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp.yaml", "fsdp2.yaml"])
def test_two_processes_export_what_their_checkpoint_holds(
    strategy: str, tiny: Path, tmp_path: Path
) -> None:
    launch(*command(tiny, tmp_path / "run", strategy))
    path = checkpoint(tmp_path / "run")
    assert path.is_dir() == (strategy == "fsdp2.yaml")
    check_student(tmp_path / "run" / "student", tiny)
    export(path, tmp_path / "out")
    check_student(tmp_path / "out", tiny)
    assert same(tmp_path / "out", tmp_path / "run" / "student")


# ---- bad input


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


def test_a_module_made_in_python_does_not_say_how_to_build_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(toy.module(), tmp_path).save_checkpoint(tmp_path / "plain.ckpt")
    error = refused(capsys, tmp_path / "plain.ckpt", tmp_path / "out")
    assert "made in Python and not from a config" in error
    assert "kdlight.export.export_student(module.student, directory)" in error


def fit(module: DistillationModule, folder: Path, **options: Any) -> Trainer:
    run = toy.trainer(folder, max_steps=1, **options)
    run.fit(module, toy.loader(8))
    return run


def test_a_student_that_cannot_be_saved_is_refused_before_the_fit(tmp_path: Path) -> None:
    module = DistillationModule(student=SingleInput(nn.Linear(4, 3)), objective=CrossEntropy())
    with pytest.raises(ValueError, match="save_pretrained.*which Plain does not have"):
        fit(module, tmp_path, callbacks=[ExportStudent()])


def test_a_directory_that_holds_a_model_is_refused_before_the_fit(tmp_path: Path) -> None:
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "config.json").touch()
    module = toy.module(network="llama")
    with pytest.raises(FileExistsError, match="already holds a model"):
        fit(module, tmp_path, callbacks=[ExportStudent()])
    fit(module, tmp_path, callbacks=[ExportStudent(overwrite=True)])
    assert "LlamaForCausalLM" in (tmp_path / "student" / "config.json").read_text()
