"""What the codes of step_codes.py share: networks, text, and blocks of steps on request."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from kdlight import PrunedCausalLM
from tests.benchmarks.fused_peers import BETA
from tests.benchmarks.memory import peak_mib

KEPT = [0, 1, 2, 23, 24, 25, 26, 27, 28, 29]
"""The layers of the quick start's student, of 30."""

SMOLLM2 = {"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536}
SMOLLM2 |= {"num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 8192}
TINY = {"vocab_size": 512, "hidden_size": 24, "intermediate_size": 48}
TINY |= {"num_attention_heads": 3, "num_key_value_heads": 3, "max_position_embeddings": 512}
ROWS = 1024
"""Sequences of the text."""


def pair(size: str) -> tuple[Any, Any]:
    """The networks of teacher and student, with the shapes of SmolLM2-135M or tiny ones."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes: dict[str, Any] = TINY if size == "tiny" else SMOLLM2
    config = LlamaConfig(**sizes, num_hidden_layers=30, tie_word_embeddings=True)
    teacher: Any = LlamaForCausalLM(config)
    return teacher, PrunedCausalLM(layers=KEPT).build(teacher).model


class Text(Dataset):
    """Sequences of random tokens."""

    def __init__(self, vocabulary: int, length: int) -> None:
        self.vocabulary, self.length = vocabulary, length

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(index)
        ids = torch.randint(self.vocabulary, (self.length,), generator=generator)
        return {"input_ids": ids, "labels": ids.clone(), "attention_mask": torch.ones_like(ids)}


class Turns:
    """Counts steps, and takes a block of them whenever a line comes in."""

    def __init__(self, warmup: int, steps: int, device: str) -> None:
        self.left, self.steps, self.device = warmup, steps, device
        self.start: float | None = None

    def step_done(self) -> None:
        """Answer at the end of a block, and wait for the next line."""
        self.left -= 1
        if self.left:
            return
        if self.device != "cpu":
            torch.cuda.synchronize()
        tell({"seconds": None if self.start is None else time.perf_counter() - self.start})
        if not sys.stdin.readline():
            tell({"mib": peak_mib(self.device)})
            os._exit(0)  # no library has a say in how long the end of its loop takes
        self.left, self.start = self.steps, time.perf_counter()


def tell(message: dict[str, Any]) -> None:
    """Write a line that no library writes."""
    print("@" + json.dumps(message), flush=True)


def add_sizes(parser: argparse.ArgumentParser) -> None:
    """Add the options that bench_step.py hands on."""
    parser.add_argument("--objective", choices=BETA, default="forward_kl")
    parser.add_argument("--size", choices=("smollm2", "tiny"), default="smollm2")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3, help="steps of a block")
