"""A run of the command line on a tiny language model, which exports its student."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from kdlight.cli import main

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"


def save_tiny_model(folder: Path) -> Path:
    """Save a language model with one token per character, and some text, to a folder."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

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
    """Return the arguments of a run of two steps, which exports its student of two layers."""
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
    """Check that a folder holds the student only, is read without kdlight, and has a model card."""
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


def checkpoint(run: Path) -> Path:
    (path,) = run.rglob("*.ckpt")
    return path


def export(path: Path, output: Path, *more: str) -> None:
    """Export a checkpoint by the command."""
    main(["export", "--ckpt_path", str(path), "--output", str(output), *more])


def refused(capsys: pytest.CaptureFixture[str], path: Path, output: Path, *more: str) -> str:
    """Return the error of an export that must fail."""
    with pytest.raises(SystemExit) as stop:
        export(path, output, *more)
    assert stop.value.code == 2
    errors = capsys.readouterr().err
    return errors[errors.index("error:") :]
