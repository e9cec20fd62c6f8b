"""A quick fit with the real Trainer, and a callback that records each optimizer step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from kdlight import DistillationModule, SingleInput
from kdlight.modules import StepResult
from kdlight.objectives import Objective

WIDTH, CLASSES, BATCH, BATCHES = 4, 3, 2, 8


def module(objective: Objective) -> DistillationModule:
    """Return a module with the same student, teacher and optimizer each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DistillationModule(
            student=SingleInput(nn.Linear(WIDTH, CLASSES)),
            teacher=SingleInput(nn.Linear(WIDTH, CLASSES)),
            objective=objective,
            optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
        )


def loader(ignored: range = range(0)) -> DataLoader:
    """Eight batches of two; the labels of batches ``ignored`` are invalid."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(BATCHES * BATCH, WIDTH, generator=generator)
    y = torch.randint(CLASSES, (BATCHES * BATCH,), generator=generator)
    y[ignored.start * BATCH : ignored.stop * BATCH] = -100
    return DataLoader(TensorDataset(x, y), BATCH)


class Endless(IterableDataset):
    """Data without a length."""

    def __iter__(self) -> Any:
        while True:
            for x, y in loader():
                yield from zip(x, y, strict=True)


class Watch(Callback):
    """Records for each optimizer step its result, and a number of the objective that it used."""

    def __init__(self, number: Any) -> None:
        self.number = number
        self.used: list[Any] = []
        self.batches: list[Any] = []
        self.evaluated: list[Any] = []
        self.steps: list[StepResult] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.trainer = trainer

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.batches.append(self.number(pl_module.objective))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if pl_module.last_step is not None:
            assert isinstance(pl_module.last_step, StepResult)
            self.steps.append(pl_module.last_step)
            self.used.append(self.batches[-1])

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any
    ) -> None:
        self.evaluated.append(self.number(pl_module.objective))


def trainer(folder: Path, *callbacks: Callback, **options: Any) -> Trainer:
    """Return a Trainer without logs on the CPU, of two epochs of eight batches by default."""
    defaults = {"max_epochs": 2, "num_sanity_val_steps": 0}
    return Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(each, ModelCheckpoint) for each in callbacks),
        callbacks=list(callbacks),
        **{**defaults, **options},
    )


class Overflow(Callback):
    """Makes a gradient infinite in the backward passes of some steps, counted from 0."""

    def __init__(self, *steps: int) -> None:
        self.steps, self.passes = steps, 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        next(pl_module.parameters()).register_hook(self._replace)

    def _replace(self, grad: Tensor) -> Tensor:
        self.passes += 1
        return grad * torch.inf if self.passes - 1 in self.steps else grad


def mixed_precision() -> MixedPrecision:
    """Return float16 on the CPU, with a scaler that leaves out a step whose gradients overflow."""
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))


def saving(folder: Path) -> ModelCheckpoint:
    """Return a callback that saves ``epoch=0.ckpt`` and so on."""
    return ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)
