"""Runs on two processes whose students answer prompts; see test_solve_rate_ranks.py.

It is a script, so that Lightning can launch the ranks. `measure` also runs in one process.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything

from kdlight.callbacks import SolveRate
from kdlight.callbacks.generation.answering import gather_results
from kdlight.distributed import FSDP2Strategy
from kdlight.models import Sampling
from tests.callbacks.test_solve_rate import PROMPTS, Data, contains_digit, module
from tests.support.rank_scripts import save_results

GREEDY = Sampling(temperature=0.0, max_new_tokens=6)
SAMPLED = Sampling(temperature=1.5, max_new_tokens=6, seed=3)


class Fails(SolveRate):
    """Fails on the second rank only."""

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        gather_results(trainer, lambda: [1 / (1 - trainer.global_rank)])


CALLBACKS: dict[str, dict[str, Any]] = {
    "greedy": {"prompts": PROMPTS, "sampling": GREEDY, "batch_size": 2},
    "sampled": {
        "prompts": PROMPTS,
        "sampling": SAMPLED,
        "batch_size": 4,
        "samples": 3,
        "shortest": 2,
    },
    "fewer prompts than ranks": {"prompts": PROMPTS[:1], "sampling": GREEDY},
}


def trainer(callback: SolveRate, **options: Any) -> Trainer:
    """Return a quiet trainer."""
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[callback],
        **options,
    )


def strategy_options(strategy: str) -> dict[str, Any]:
    """Return the options of a trainer for a strategy on two ranks, or for one process."""
    if strategy == "one":
        return {"devices": 1}
    return {"devices": 2, "strategy": FSDP2Strategy() if strategy == "fsdp2" else strategy}


def measure(name: str, strategy: str) -> dict[str, Any]:
    """Validate a new student; return its answers and what is logged."""
    seed_everything(0, verbose=False)
    callback = SolveRate(verifier=contains_digit, **CALLBACKS[name])
    run = trainer(callback, **strategy_options(strategy))
    run.validate(module(), Data(), verbose=False)
    values = {key: value.item() for key, value in run.callback_metrics.items()}
    names = ("solve_rate", "tokens", "unfinished", "majority", "short")
    return {
        "answers": [trace.to_json() for trace in callback.answers],
        "values": {k: v for k, v in values.items() if k.removeprefix("val/").startswith(names)},
    }


def fit(strategy: str, *, answers: bool) -> dict[str, Any]:
    """Train a student with or without the callback; return its loss and what is logged."""
    seed_everything(0, verbose=False)
    callback = SolveRate(PROMPTS, contains_digit, sampling=SAMPLED, every_n_epochs=1)
    run = trainer(callback, max_epochs=2, **strategy_options(strategy))
    if not answers:
        run.callbacks.remove(callback)  # type: ignore[attr-defined]
    run.fit(module(), Data())
    rate = run.callback_metrics.get("val/solve_rate")
    return {
        "loss": run.callback_metrics["train/loss"].item(),
        "forward_kl": run.callback_metrics["val/forward_kl"].item(),
        "rate": None if rate is None else rate.item(),
    }


def error(strategy: str) -> str:
    """Return the message of a run whose verifier fails on one rank only."""
    run = trainer(Fails(PROMPTS, sampling=GREEDY), **strategy_options(strategy))
    try:
        run.validate(module(), Data(), verbose=False)
    except ValueError as problem:
        return str(problem)
    return ""


def main(folder: Path) -> None:
    """Run everything with each strategy, on every rank."""
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    for strategy in ("ddp", "fsdp2"):
        results[strategy] = {name: measure(name, strategy) for name in CALLBACKS}
        results[strategy]["with"] = fit(strategy, answers=True)
        results[strategy]["without"] = fit(strategy, answers=False)
        results[strategy]["error"] = error(strategy)
    save_results(results, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
