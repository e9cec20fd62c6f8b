"""Runs of a config with a tiny language model."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import pytest

import kdlight.configs
from kdlight.cli.config_files import read_config

FOLDER = Path(kdlight.configs.__path__[0])
CONFIGS = sorted(FOLDER.glob("*.yaml"))
DIGITS = str(FOLDER / "digits.yaml")
QUICK = [
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=3",
    "--trainer.limit_val_batches=2",
    "--trainer.enable_progress_bar=false",
    "--trainer.logger=false",
    "--trainer.accelerator=cpu",
    '--trainer.callbacks=[{"class_path":"TrainTeacherFirst","init_args":{"epochs":1}}]',
]


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
        hidden_size=24,  # queries, keys and values are divided into 12 relation heads
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
    # a wrong response, and correct ones of three lengths, which operators and curricula choose from
    answers = [
        {"prompt": f"{i} + 1 =", "response": text, "score": score, "difficulty": i % 5 + 1}
        for i in range(40)
        for text, score in ((f"{i + 1}", 1), (f"{i}", 0), (f"so {i + 1}", 1), (f"hm, {i + 1}", 1))
    ]
    traces.write_text("\n".join(map(json.dumps, answers)))
    return {"source": str(folder), "text": str(text), "traces": str(traces)}


def within(node: Any, key: str) -> list[Any]:
    """Return every value of ``key`` in a config."""
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    values = [node[key]] if isinstance(node, dict) and key in node else []
    return values + [value for each in inner for value in within(each, key)]


def arguments(config: Path, tiny: dict[str, str]) -> list[str]:
    """Return the command for two steps of a config, on a tiny language model or large batches."""
    chosen = read_config(config)
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
            "--data.init_args.block_size": "40",
            "--trainer.max_steps": "2",
            "--trainer.val_check_interval": "1",
        }
        if within(chosen["model"], "width"):  # sizes of the model it was written for
            small["--model.init_args.student.init_args.width"] = '{"feed_forward": 8}'
        if within(chosen["model"], "sources"):  # what earlier runs save
            sources = json.dumps({tiny["source"]: 1.0})
            small["--model.init_args.student.init_args.sources"] = sources
    elif chosen["data"]["class_path"] == "kdlight.data.DomainDataModule":
        callback = "kdlight.callbacks.DomainReweighting"
        reweighting = {"class_path": callback, "init_args": {"every": 1, "samples": 2}}
        small |= {
            "--model.init_args.teacher.init_args.source": tiny["source"],
            "--data.init_args.domains": json.dumps(dict.fromkeys(("one", "other"), tiny["text"])),
            "--data.init_args.block_size": "40",
            "--trainer.callbacks": json.dumps([reweighting]),
            "--trainer.max_steps": "2",
        }
    elif chosen["data"]["class_path"] == "kdlight.data.TracesDataModule":
        small |= {
            "--model.init_args.student.init_args.source": tiny["source"],
            "--data.init_args.files": tiny["traces"],
            "--data.init_args.batch_size": "2",
            "--trainer.max_epochs": "2",  # a curriculum needs two
            "--trainer.max_steps": "2",
            "--trainer.accumulate_grad_batches": "1",
        }
        if within(chosen["model"]["init_args"].get("teacher"), "source"):
            small["--model.init_args.teacher.init_args.source"] = tiny["source"]
    elif chosen["data"]["class_path"] == "kdlight.data.SumsDataModule":
        small |= {
            "--model.init_args.student.init_args.source": tiny["source"],
            "--data.init_args.size": "9",
            "--data.init_args.batch_size": "64",  # an epoch is a step, with a round in between
            "--trainer.max_epochs": "2",
        }
    elif chosen["data"]["class_path"] == "kdlight.data.TonesDataModule":
        small |= {
            "--data.init_args.frames": "4",
            "--data.init_args.validation_frames": "2",
            "--data.init_args.batch_size": "2",
            "--trainer.max_epochs": "1",
        }
    elif chosen["data"]["class_path"] == "kdlight.data.DocstringsDataModule":
        small |= {
            "--data.init_args.per_package": "20",
            "--data.init_args.batch_size": "64",
            "--trainer.max_epochs": "1",
        }
    else:
        size = "512" if within(chosen["data"], "train_classes") else "1024"  # two batches
        small |= {"--data.init_args.batch_size": size, "--trainer.max_epochs": "1"}
    return ["fit", "--config", str(config), *(part for pair in small.items() for part in pair)]
