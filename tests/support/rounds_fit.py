"""Fits with rounds, on one process or several, that may be killed; see test_rounds_ranks.py.

It is a script, so that Lightning can launch the ranks. Arguments: as for `fit_as_rank`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from kdlight import CausalLM, DistillationModule
from kdlight.callbacks import (
    BudgetedRound,
    CompetitiveRound,
    ExactResume,
    RoundRecipe,
    Rounds,
    SelfImitationRound,
)
from kdlight.data.loaders import EpochSampler, train_loader
from kdlight.data.traces import Trace
from kdlight.data.traces.sums import SimilarSums, solve_sums
from kdlight.data.traces.sums_module import SumsDataModule
from kdlight.distributed import FSDP2Strategy
from kdlight.models import Sampling
from kdlight.objectives import CrossEntropy
from tests.support import tiny_lm
from tests.support.rank_scripts import fit_as_rank

CALLS: list[int] = []


def states_digit(trace: Trace) -> float:
    """A lenient critic, which a student learns to please within an epoch."""
    return float(any(sign.isdigit() for sign in trace.response))


def solver(prompts: list[Trace]) -> list[Trace]:
    """A teacher that is right; the call of the number in KILL ends its process, as a fault does."""
    CALLS.append(len(prompts))
    if str(len(CALLS)) == os.environ.get("KILL"):
        os.kill(os.getpid(), signal.SIGKILL)
    return solve_sums(prompts)


class RankSampler(EpochSampler):
    """The share of a rank in whole batches of 16, which are those of one process.

    Lightning's sampler has another order, and repeats samples that the ranks do not divide.
    """

    rank, ranks = 0, 1

    def __len__(self) -> int:
        return self.size // 16 * 16 // self.ranks

    def __iter__(self) -> Iterator[int]:
        order = list(super().__iter__())[: self.size // 16 * 16]
        return iter(order[self.rank :: self.ranks])


class SameBatches(SumsDataModule):
    """Sums whose batches are the same on any number of ranks."""

    def train_dataloader(self) -> Any:
        assert self.trainer is not None
        whole = super().train_dataloader()
        sampler = RankSampler(len(whole.dataset), seed=self.seed)  # pyright: ignore[reportArgumentType]
        sampler.rank, sampler.ranks = self.trainer.global_rank, self.trainer.world_size
        return train_loader(
            whole.dataset,
            batch_size=self.batch_size,
            seed=self.seed,
            collate_fn=self.collate_fn(),
            sampler=sampler,
        )


class CountsBatches(Callback):
    """Counts the samples that are trained on in each epoch."""

    def __init__(self) -> None:
        self.batches: dict[int, list[int]] = {}

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, *args: Any) -> None:
        self.batches.setdefault(trainer.current_epoch, []).append(len(batch["input_ids"]))


class SaveAtEnds(Callback):
    """A checkpoint wherever one may be written around the end of an epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        batch = args[-1]
        trainer.save_checkpoint(self.folder / f"{trainer.current_epoch}_{batch}_batch.ckpt")

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        trainer.save_checkpoint(self.folder / f"{trainer.current_epoch}_validation.ckpt")

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        trainer.save_checkpoint(self.folder / f"{trainer.current_epoch}_end.ckpt")


def recipe(name: str) -> RoundRecipe:
    if name == "competitive":
        return CompetitiveRound(solver, "number", SimilarSums(1))
    if name == "budgeted":
        return BudgetedRound(states_digit, total=40, probe=2)
    return SelfImitationRound(states_digit, samples=2)


def fit(options: dict[str, Any]) -> dict[str, Any]:
    """Fit on sums; return the pool, the history, the weights and the bytes of the pool.

    Args:
        options: ``folder``; and if wanted ``recipe``, ``ranks``, ``strategy``, ``kill`` (the number
            of the teacher's call that ends its process), ``resume`` (a checkpoint), ``dropout``,
            ``save``, ``everywhere`` (save around the ends of epochs), ``exact`` (`ExactResume`).
    """
    torch.set_num_threads(1)
    seed_everything(options.get("seed", 0), verbose=False)
    CALLS.clear()
    os.environ["KILL"] = str(options.get("kill"))
    folder, ranks = Path(options["folder"]), options.get("ranks", 1)
    network = tiny_lm.model(dim=32)
    for part in network.modules():
        if hasattr(part, "attention_dropout"):
            part.attention_dropout = options.get("dropout", 0.0)
    module = DistillationModule(
        student=CausalLM.wrap(network),
        objective=CrossEntropy(),
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=0.01),
    )
    rounds = Rounds(
        recipe(options.get("recipe", "imitation")),
        sampling=Sampling(max_new_tokens=4, seed=3),
        batch_size=8,
        max_prompts=24,
        directory=folder / "rounds",
    )
    counter = CountsBatches()
    saving = ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)
    trainer = Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        devices=ranks,
        strategy=FSDP2Strategy() if options.get("strategy") == "fsdp2" else "auto",
        max_epochs=3,
        use_distributed_sampler=False,
        reload_dataloaders_every_n_epochs=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        enable_checkpointing=options.get("save", True),
        callbacks=[
            *([SaveAtEnds(folder)] if options.get("everywhere") else []),
            rounds,
            *([ExactResume()] if options.get("exact", True) else []),
            counter,
            *([saving] if options.get("save", True) else []),
        ],
    )
    data = SameBatches(
        tiny_lm.tokenizer(), size=64, batch_size=16 // ranks, validation_fraction=0.1
    )
    trainer.fit(module, data, ckpt_path=options.get("resume"))
    weights = {
        name: value.full_tensor() if hasattr(value, "full_tensor") else value.clone()
        for name, value in module.student.state_dict().items()
    }
    path = folder / "rounds" / "pool.jsonl"
    return {
        "pool": [trace.to_json() for trace in rounds.pool],
        "history": rounds.history,
        "ended": rounds.ended,
        "weights": weights,
        "bytes": path.read_bytes().decode() if path.exists() else "",
        "calls": list(CALLS),
        "batches": counter.batches,
        "samples": len(data.train_dataloader().dataset),  # pyright: ignore[reportArgumentType]
    }


if __name__ == "__main__":
    fit_as_rank(fit)
