"""Configs: each is a whole fit that parses and runs, and each objective has one."""

from __future__ import annotations

import csv
import json
import math
import string
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import kdlight.configs
from kdlight.objectives import OBJECTIVES

CONFIGS = sorted(Path(kdlight.configs.__path__[0]).glob("*.yaml"))
# a cached teacher has to be written first, which tests/cli/test_cache.py does
ALONE = [path for path in CONFIGS if path.stem != "cached"]


@pytest.fixture(autouse=True)
def _like_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["kdlight"])  # Lightning warns of arguments given twice


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A language model of a few hundred weights with a token a character, and some text."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    signs = {sign: i for i, sign in enumerate(["<end>", "<unknown>", *string.printable])}
    backend = Tokenizer(models.WordLevel(signs, unk_token="<unknown>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")
    tokenizer.save_pretrained(folder)
    sizes = LlamaConfig(
        vocab_size=len(signs),
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=30,  # configs may name layers of the model they were written for
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        eos_token_id=0,
        bos_token_id=0,
    )
    LlamaForCausalLM(sizes).save_pretrained(folder)
    text = folder / "text.jsonl"
    rows = [f"document {i} says " + "so " * (20 + i) for i in range(40)]
    text.write_text("\n".join(json.dumps({"text": row}) for row in rows))
    traces = folder / "traces.jsonl"
    pairs = [{"prompt": f"{i} + 1 =", "chosen": f"{i + 1}", "rejected": f"{i}"} for i in range(40)]
    traces.write_text("\n".join(map(json.dumps, pairs)))
    return {"source": str(folder), "text": str(text), "traces": str(traces)}


def within(node: Any, key: str) -> list[Any]:
    """Every value of ``key`` in a config."""
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    found = [node[key]] if isinstance(node, dict) and key in node else []
    return found + [value for each in inner for value in within(each, key)]


def arguments(config: Path, tiny: dict[str, str]) -> list[str]:
    """What makes a config small: two steps, and a tiny language model or large batches."""
    chosen = yaml.safe_load(config.read_text())
    small = {
        "--trainer.limit_val_batches": "1",
        "--trainer.enable_progress_bar": "false",
        "--trainer.logger": "lightning.pytorch.loggers.CSVLogger",
        "--trainer.logger.save_dir": ".",
    }
    if chosen["data"]["class_path"] == "kdlight.data.TextDataModule":
        small |= {
            "--model.init_args.teacher.init_args.source": tiny["source"],
            "--data.init_args.files": tiny["text"],
            "--data.init_args.block_size": "32",
            "--trainer.max_steps": "2",
            "--trainer.val_check_interval": "1",
        }
    elif chosen["data"]["class_path"] == "kdlight.data.TracesDataModule":
        small |= {
            "--model.init_args.student.init_args.source": tiny["source"],
            "--data.init_args.files": tiny["traces"],
            "--data.init_args.batch_size": "2",
            "--trainer.max_epochs": "1",
            "--trainer.max_steps": "2",
            "--trainer.accumulate_grad_batches": "1",
        }
    else:
        small |= {"--data.init_args.batch_size": "1024", "--trainer.max_epochs": "1"}
    return ["fit", "--config", str(config), *(part for pair in small.items() for part in pair)]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_has_a_config(name: str) -> None:
    (path,) = (each for each in CONFIGS if each.stem == name)
    assert f"kdlight.objectives.{OBJECTIVES[name].__name__}" in within(
        yaml.safe_load(path.read_text())["model"]["init_args"]["objective"], "class_path"
    )


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_config_parses(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from kdlight.cli import main

    with pytest.raises(SystemExit) as done:
        main(["fit", "--config", str(config), "--print_config"])
    assert done.value.code == 0
    whole = yaml.safe_load(capsys.readouterr().out)
    assert set(within(yaml.safe_load(config.read_text()), "class_path")) <= set(
        within(whole, "class_path")
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Lightning's use of its own libraries
@pytest.mark.parametrize("config", ALONE, ids=lambda path: path.stem)
def test_a_config_runs(config: Path, tiny: dict[str, str], tmp_path: Path) -> None:
    from kdlight.cli import main

    main(arguments(config, tiny))
    (log,) = tmp_path.rglob("metrics.csv")
    rows = list(csv.DictReader(log.read_text().splitlines()))
    losses = [float(row["train/loss"]) for row in rows if row.get("train/loss")]
    assert len(losses) == 2
    assert all(map(math.isfinite, losses))
    for ramp in within(yaml.safe_load(config.read_text()), "target"):
        assert len([row for row in rows if row.get(f"train/{ramp}")]) == 2
