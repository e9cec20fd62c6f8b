"""Fits with a learned ratio of teacher and label, on one process or several.

`fit` runs one fit in this process; the script runs several on ranks, see `rank_scripts`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

from kdlight import DistillationModule, FrozenTeacher, SingleInput
from kdlight.callbacks import BilevelUpdate
from kdlight.distributed import FSDP2Strategy
from kdlight.objectives import CrossEntropy, Objective, TGeoKD, Weighted
from tests.support import rank_scripts
from tests.support.split_fit import full_tensor

WIDTH, CLASSES = 5, 4


class Halves(LightningDataModule):
    """Rows in a fixed order, which the ranks of a step divide among them; the same on one process.

    Labels are wrong at random in the training data, and right in the others.
    """

    def __init__(self, batch_size: int = 8, *, count: int = 32, dtype: Any = torch.float64) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        right = torch.randn(WIDTH, CLASSES, generator=generator)
        x = torch.randn(count + 24, WIDTH, generator=generator)
        labels = (x @ right).argmax(-1)
        noisy = torch.where(torch.rand(len(x), generator=generator) < 0.4, 0, labels)
        noisy[5] = -100  # one rank has fewer valid rows than the other
        x = x.to(dtype)
        self.batch_size = batch_size
        self.train = TensorDataset(x[:count], noisy[:count])
        self.held_out = TensorDataset(x[count:], labels[count:])

    def train_dataloader(self) -> DataLoader:
        return self._own(self.train, self.batch_size)

    def val_dataloader(self) -> DataLoader:
        return self._own(self.held_out, 12)

    def _own(self, rows: TensorDataset, batch_size: int) -> DataLoader:
        trainer = self.trainer
        assert trainer is not None
        ranks, rank = trainer.world_size, trainer.global_rank
        order = range(rank, len(rows), ranks)
        return DataLoader(rows, batch_size // ranks, sampler=order)  # type: ignore[arg-type]


class Layers(nn.Module):
    """A network whose layers FSDP2 shards one by one."""

    def __init__(self, width: int, *, dropout: float = 0.0, norm: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(WIDTH, width), nn.Linear(width, width)])
        self.norm = nn.BatchNorm1d(width) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self.dropout(self.norm(torch.tanh(layer(x))))
        return self.head(x)


class Watch(Callback):
    """Records each gradient that the optimizer of the ratio gets."""

    def __init__(self, update: BilevelUpdate) -> None:
        self.update, self.gradients = update, []

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        if self.update.optimizer is not None:
            self.update.optimizer.register_step_pre_hook(self._keep)

    def _keep(self, optimizer: Optimizer, *args: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.gradients.append(torch.cat([p.grad.flatten() for p in parameters]))


class Save(Callback):
    """Saves a checkpoint at the end of the first epoch."""

    def __init__(self, path: str) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(self.path)


def module(
    objective: Objective | None = None,
    *,
    dtype: Any = torch.float64,
    lr: float = 0.3,
    student: dict[str, Any] | None = None,
    **options: Any,
) -> DistillationModule:
    """Return a student and a teacher that is wrong about one class."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        if objective is None:
            terms = {"fused": TGeoKD(classes=CLASSES), "ce": CrossEntropy()}
            objective = Weighted(terms, weights={"fused": 0.7, "ce": 0.2})
        return DistillationModule(
            student=SingleInput(Layers(6, **(student or {})).to(dtype)),
            teacher=FrozenTeacher(SingleInput(Layers(7).to(dtype))),
            objective=objective.to(dtype),
            optimizer=lambda groups: torch.optim.SGD(groups, lr=lr, momentum=0.9),
            **options,
        )


def quiet_trainer(*callbacks: Callback, **options: Any) -> Trainer:
    return Trainer(
        **{
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 1,
            "limit_val_batches": 0,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "use_distributed_sampler": False,
            "callbacks": list(callbacks),
            **options,
        }
    )


def state(part: nn.Module) -> dict[str, Tensor]:
    return {name: full_tensor(value).clone() for name, value in part.state_dict().items()}


def fit(options: dict[str, Any]) -> dict[str, Any]:
    """Run one fit; return the weights, the gradients of the ratio, and what was logged."""
    if options.get("ranks", 1) > 1:
        seed_everything(0, verbose=False)
    update = BilevelUpdate(**options.get("update", {}))
    watch = Watch(update)
    names = {"fsdp2": FSDP2Strategy}
    strategy = options.get("strategy", "auto")
    saving = [Save(options["save"])] if "save" in options else []
    trainer = quiet_trainer(
        update,
        watch,
        *saving,
        max_epochs=options.get("epochs", 1),
        devices=options.get("ranks", 1),
        strategy=names[strategy]() if strategy in names else strategy,
        default_root_dir=options.get("folder", Path.cwd()),
    )
    this = module(normalization=options.get("normalization", "global"))
    trainer.fit(this, Halves(), ckpt_path=options.get("resume"), weights_only=False)
    return {
        "update": update.state_dict(),
        "student": state(this.student),
        "objective": state(this.objective),
        "gradients": torch.stack(watch.gradients),
        "loss": trainer.callback_metrics["train/bilevel_loss"].item(),
    }


fit_on_ranks = partial(rank_scripts.fit_on_ranks, "tests.support.bilevel_fit", timeout=200)


if __name__ == "__main__":
    rank_scripts.fit_as_rank(fit, (ValueError, RuntimeError))
