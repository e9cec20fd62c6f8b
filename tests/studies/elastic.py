"""A study: one student of several depths against students of one depth each.

    python -m tests.studies.elastic --output FOLDER

The student is 10 of the 30 layers of SmolLM2-135M, the first and the last ones.
`kdlight.callbacks.ElasticDepth` trains it together with its sub-networks. For comparison, a student
of each of a few depths is trained alone, from the same weights as the sub-network of this depth, on
the same batches, for as many steps of as many tokens. So a depth that is trained alone sees each
token, and a sub-network some of them. The teacher is asked once, for all runs. Results are kept in
the folder, and a run that was stopped goes on with the next fit.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from kdlight import CausalLM, DistillationModule
from kdlight.callbacks import ElasticDepth
from kdlight.callbacks.elastic.held_out import held_out_kl
from kdlight.data import TextDataModule
from kdlight.models import load_model, prune_layers, sub_network
from kdlight.objectives import ForwardKL
from tests.models.tiny_models import SMOLLM2
from tests.studies.compare.remembered import Remembered, remember

LAYERS = [0, 1, 2, 23, 24, 25, 26, 27, 28, 29]
DEPTH, MICRO_BATCHES, TOKENS, HELD_OUT = len(LAYERS), 4, 128, 16


def read_blocks(steps: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return the blocks of tokens to train on, and those to evaluate."""
    data = TextDataModule(SMOLLM2, block_size=TOKENS, batch_size=1, validation_fraction=0.05)
    data.setup("fit")
    loaders = (data.train_dataloader(), data.val_dataloader())
    train, held_out = ([row["input_ids"][0] for row in loader] for loader in loaders)
    if len(train) < steps * MICRO_BATCHES:
        raise ValueError(f"{steps} steps need {steps * MICRO_BATCHES} blocks, got {len(train)}")
    return train[: steps * MICRO_BATCHES], held_out[:HELD_OUT]


def batches(blocks: list[Tensor], size: int) -> DataLoader:
    rows = [{"input_ids": block, "labels": block} for block in blocks]
    return DataLoader(rows, size)  # type: ignore[arg-type]


def fit(
    student: Any, teacher: Path, blocks: list[Tensor], callbacks: list[Callback]
) -> DistillationModule:
    """Train a student for one pass over the blocks."""
    torch.manual_seed(0)
    steps = len(blocks) // MICRO_BATCHES
    module = DistillationModule(
        CausalLM.wrap(student),
        ForwardKL(),
        Remembered(teacher),
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=1e-3),
        lr_scheduler=lambda each: torch.optim.lr_scheduler.PolynomialLR(each, steps),
    )
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        accumulate_grad_batches=MICRO_BATCHES,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
    )
    trainer.fit(module, batches(blocks, 1))
    return module


def evaluate(module: DistillationModule, blocks: list[Tensor], depth: int | None = None) -> float:
    """Return the held-out KL of a student, or of its sub-network."""
    student: Any = module.student
    if depth is None:
        return held_out_kl(module, batches(blocks, 8))
    with sub_network(student.model, depth):
        return held_out_kl(module, batches(blocks, 8))


def run(folder: Path, steps: int, alone: list[int], min_layers: int) -> dict[str, Any]:
    """Do the fits that are missing in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path, teacher = folder / f"{steps} steps.json", folder / f"{steps} steps.safetensors"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    train, held_out = read_blocks(steps)
    large: Any = load_model(SMOLLM2)
    if not teacher.exists():
        remember(CausalLM.wrap(large).eval(), train + held_out, teacher, batch=8)
    start = prune_layers(large, LAYERS)
    del large
    depths = range(min_layers, DEPTH + 1)
    for name in ("elastic", *map(str, alone)):
        if name in results:
            continue
        clock = time.perf_counter()
        if name == "elastic":
            callback = ElasticDepth(min_layers, validate_depths=[])
            module = fit(prune_layers(start, DEPTH), teacher, train, [callback])
            found = {str(depth): evaluate(module, held_out, depth) for depth in depths}
        else:
            module = fit(prune_layers(start, int(name)), teacher, train, [])
            found = {name: evaluate(module, held_out)}
            if int(name) == DEPTH:  # its own sub-networks, which were not trained
                found |= {
                    f"{d} of {DEPTH}": evaluate(module, held_out, d) for d in alone if d < DEPTH
                }
        results[name] = {"kl": found, "seconds": time.perf_counter() - clock}
        path.write_text(json.dumps(results, indent=1))
        print(f"{name}: {found}", flush=True)
    return results


def table(results: dict[str, Any]) -> str:
    """Return the held-out KL of each depth, one row each."""
    elastic = results["elastic"]["kl"]
    largest = results.get(str(DEPTH), {}).get("kl", {})
    lines = [
        "| layers | one elastic student | a student of this depth alone |"
        f" cut out of the student of {DEPTH} layers |",
        "| --: | --: | --: | --: |",
    ]
    for depth, value in elastic.items():
        own = results.get(depth, {}).get("kl", {}).get(depth)
        cut = largest.get(f"{depth} of {DEPTH}")
        cells = ["" if each is None else f"{each:.3f}" for each in (value, own, cut)]
        lines.append(f"| {depth} | {' | '.join(cells)} |")
    seconds = {name: round(each["seconds"]) for name, each in results.items()}
    return "\n".join([*lines, "", f"seconds of each fit: {seconds}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--alone", type=int, nargs="*", default=[4, 7, DEPTH])
    parser.add_argument("--min-layers", type=int, default=4)
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    results = run(options.output, options.steps, options.alone, options.min_layers)
    print(table(results))


if __name__ == "__main__":
    main()
