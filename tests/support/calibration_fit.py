"""Short fits on an overconfident teacher that is calibrated first, on one process or several."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from kdlight import DistillationModule, FrozenTeacher, SingleInput
from kdlight.callbacks import CalibrateTeacherFirst
from kdlight.distributed import FSDP2Strategy
from kdlight.objectives import ForwardKL, Objective
from tests.support import rank_scripts, toy
from tests.support.split_fit import full_tensor

CLASSES, ROWS, FACTOR = 5, 600, 5.0


class Scaled(nn.Module):
    """Logits times a factor, which makes them over- or underconfident."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


def calibrated_data(seed: int = 0, rows: int = ROWS) -> TensorDataset:
    """Logits, and labels that are drawn from their softmax."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, CLASSES, generator=generator)
    labels = torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(-1)
    return TensorDataset(logits, labels)


class Data(LightningDataModule):
    """Such data, whose rows the ranks of a step divide among them."""

    def __init__(self, batch_size: int = 60, *, held_out: TensorDataset | None = None) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.train = calibrated_data(0)
        self.held_out = calibrated_data(1) if held_out is None else held_out

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.train)

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.held_out)

    def _loader(self, data: TensorDataset) -> DataLoader:
        trainer = self.trainer
        assert trainer is not None
        own = range(trainer.global_rank, len(data), trainer.world_size)
        return DataLoader(data, self.batch_size, sampler=own)


class Recorder(ForwardKL):
    """A forward KL that keeps the teacher's probabilities of the first training batch."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.seen: list[Tensor] = []

    def forward(self, inputs: Any) -> Any:
        if self.training and not self.seen:
            student = inputs.student.logits().detach()
            self.seen.append(inputs.teacher.given_student(student).softmax(-1))
        return super().forward(inputs)


def module(teacher: Any = None, objective: Objective | None = None) -> DistillationModule:
    """A linear student, and by default a teacher that is five times too sure."""
    torch.manual_seed(0)
    return DistillationModule(
        SingleInput(nn.Linear(CLASSES, CLASSES)),
        Recorder() if objective is None else objective,
        FrozenTeacher(SingleInput(Scaled(FACTOR))) if teacher is None else teacher,
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.5, momentum=0.9),
    )


def trainer(folder: Path, *callbacks: Callback, **options: Any) -> Trainer:
    options = {"num_sanity_val_steps": 0, "use_distributed_sampler": False, **options}
    return toy.trainer(folder, callbacks=list(callbacks), **options)


def fit(options: dict[str, Any]) -> dict[str, Any]:
    """Run a fit of an epoch as one rank of several, or alone."""
    ranks = options.get("ranks", 1)
    seed_everything(0, verbose=False)
    strategy: Any = options.get("strategy", "auto")
    if strategy == "fsdp2":
        strategy = FSDP2Strategy(tensor_parallel_size=1)
    callback = CalibrateTeacherFirst(options["criterion"])
    this = module()
    run = trainer(Path(), callback, devices=ranks, strategy=strategy, default_root_dir=None)
    run.fit(this, Data(60 // ranks))
    student = {name: full_tensor(value) for name, value in this.student.state_dict().items()}
    logged = run.callback_metrics["train/teacher_temperature"].item()
    return {"result": callback.result, "student": student, "logged": logged}


fit_on_ranks = partial(rank_scripts.fit_on_ranks, "tests.support.calibration_fit", timeout=300)


if __name__ == "__main__":
    rank_scripts.fit_as_rank(fit)
