"""One short fit that draws random numbers of every kind: see test_resume.py.

Run as a script so that Lightning can start its ranks, or be killed. Arguments: a JSON object of
options.
"""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader

from kdlight import DistillationModule, FrozenTeacher
from kdlight.callbacks import AdaptiveTAID, ExactResume, HyperparameterScheduler, Preemption
from kdlight.data.loaders import EpochSampler, ResumableLoader
from kdlight.objectives import TAID, CrossEntropy, LearnableTemperature, Weighted
from kdlight.schedules import Linear
from tests.support import toy


class Noisy(toy.Ragged):
    """Sequences whose first two tokens are drawn anew each time, by numpy and by Python."""

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        item = super().__getitem__(index)
        item["input_ids"] = item["input_ids"].clone()
        item["input_ids"][0] = random.randrange(toy.VOCABULARY)
        item["input_ids"][1] = int(np.random.randint(toy.VOCABULARY))
        return item


class NoisyData(LightningDataModule):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def train_dataloader(self) -> DataLoader:
        sampler = EpochSampler(self.count, seed=3)
        return ResumableLoader(Noisy(self.count), batch_size=2, sampler=sampler, collate_fn=toy.pad)

    def val_dataloader(self) -> DataLoader:
        return toy.loader(2, count=4, seed=5)


class SignalAt(Callback):
    """Ends its own process, or tells it to go, at one batch of all."""

    def __init__(self, batch: int, name: str, rank: int | None = None) -> None:
        self.batch, self.number, self.rank = batch, getattr(signal, name), rank

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        mine = self.rank is None or trainer.global_rank == self.rank
        if trainer.fit_loop.total_batch_idx == self.batch and mine:
            os.kill(os.getpid(), self.number)


class SaveEverywhere(Callback):
    """A checkpoint wherever one may be written, and how many rows were logged by then."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.saved: dict[Path, int] = {}

    def _save(self, trainer: Any, name: str) -> None:
        path = self.folder / f"{len(self.saved):02}_{name}.ckpt"
        trainer.save_checkpoint(path)
        self.saved[path] = len(rows(trainer.log_dir))

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        self._save(trainer, "train_batch_end")

    def on_validation_batch_end(self, trainer: Any, *args: Any) -> None:
        self._save(trainer, "validation_batch_end")

    def on_validation_end(self, trainer: Any, *args: Any) -> None:
        self._save(trainer, "validation_end")

    def on_train_epoch_end(self, trainer: Any, *args: Any) -> None:
        self._save(trainer, "train_epoch_end")


def rows(folder: str) -> list[dict[str, str]]:
    """What was logged, without the clock."""
    path = Path(folder) / "metrics.csv"
    return [
        {key: value for key, value in row.items() if value and "per_second" not in key}
        for row in csv.DictReader(path.read_text().splitlines() if path.exists() else [])
    ]


def module(*, own_optimizers: bool = False) -> DistillationModule:
    """A module with dropout; with ``own_optimizers`` its objective learns, at a rate of its own."""
    terms: dict[str, Any] = {"taid": TAID(), "ce": CrossEntropy()}
    optimizer: Any = lambda groups: torch.optim.AdamW(groups, lr=0.05)  # noqa: E731
    if own_optimizers:
        terms["ctkd"] = LearnableTemperature()
        optimizer = {
            "student": optimizer,
            "objective": lambda groups: torch.optim.SGD(groups, lr=0.5, momentum=0.9),
        }
    return DistillationModule(
        student=toy.ToyLM(seed=1, dropout=0.2),
        teacher=FrozenTeacher(toy.ToyLM(dim=9, seed=2)),
        objective=Weighted(terms, weights={"ce": 0.3}),
        optimizer=optimizer,
        labels="causal",  # the first inputs of a sequence are drawn anew, its labels are not
        lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.5),
    )


def fit(folder: Path, callbacks: list[Callback], **options: Any) -> dict[str, Any]:
    """Fit, and return the student's parameters and the logged rows."""
    seed_everything(options.get("seed", 0), verbose=False)
    strategy: Any = options.get("strategy", "auto")
    if strategy == "fsdp2":
        strategy = ModelParallelStrategy(
            data_parallel_size=options["ranks"], tensor_parallel_size=1
        )
    logger = CSVLogger(folder, name="log", version=None, flush_logs_every_n_steps=1)
    trainer = Trainer(
        default_root_dir=folder,
        accelerator=options.get("accelerator", "cpu"),
        devices=options.get("ranks", 1),
        strategy=strategy,
        accumulate_grad_batches=options.get("accumulate", 2),
        logger=logger,
        log_every_n_steps=1,
        num_sanity_val_steps=options.get("sanity", 0),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(each, ModelCheckpoint) for each in callbacks),
        callbacks=[
            HyperparameterScheduler("weights.ce", Linear(0.3, 0.1)),
            AdaptiveTAID(alpha=0.3),
            ExactResume(),
            *callbacks,
        ],
        **options.get("trainer", {"max_epochs": 2}),
    )
    this = module(own_optimizers=options.get("own_optimizers", False))
    trainer.fit(this, NoisyData(options.get("count", 10)), ckpt_path=options.get("resume"))
    parameters = {
        name: value.full_tensor() if hasattr(value, "full_tensor") else value
        for name, value in this.student.state_dict().items()
    }
    parameters |= dict(this.objective.named_parameters())
    return {"parameters": parameters, "rows": rows(logger.log_dir)}


def main(options: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    folder = Path(options.pop("folder"))
    saving = ModelCheckpoint(
        folder / "checkpoints", filename="{step}", save_top_k=-1, every_n_train_steps=1
    )
    callbacks: list[Callback] = [Preemption(), saving]
    if "signal" in options:
        callbacks.append(SignalAt(**options["signal"]))
    result = fit(folder, callbacks, **options)
    if rank_zero_only.rank == 0:
        torch.save(result, folder / "result.pt")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
