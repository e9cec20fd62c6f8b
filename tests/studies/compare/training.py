"""One training run, as a fit and a timing share it."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch.optim.lr_scheduler import PolynomialLR

from kdlight import CachedTeacher, CausalLM, DistillationModule
from tests.studies.compare.methods import METHODS
from tests.studies.compare.remembered import Remembered
from tests.studies.compare.setting import Setting, Text

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}


class Clock(Callback):
    """Seconds from the end of each optimizer step to the end of the next."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *given: Any) -> None:
        self.ends.append(time.perf_counter())

    def seconds(self) -> float:
        """A step's: the median, without the first, which allocates."""
        later = self.ends[1:]
        return median(b - a for a, b in zip(later, later[1:], strict=False))


def train(folder: Path, name: str, *, seed: int, steps: int) -> tuple[CausalLM, Clock]:
    """The student of ``folder`` after ``steps`` steps by the method ``name``."""
    setting, method, clock = Setting.load(folder), METHODS[name], Clock()
    torch.manual_seed(seed)
    student = CausalLM(str(folder / "student"))
    if method.teacher == "top":
        teacher: Any = CachedTeacher(str(folder / "top"))
    else:
        teacher = Remembered(folder / "whole.safetensors")
    assert method.objective is not None
    module = DistillationModule(
        student,
        method.objective(),
        teacher,
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=setting.lr),
        lr_scheduler=lambda optimizer: PolynomialLR(optimizer, total_iters=setting.steps),
    )
    trainer = Trainer(
        **QUIET,
        precision=setting.precision,  # type: ignore[arg-type]
        max_steps=steps,
        limit_val_batches=0,
        gradient_clip_val=1.0,
        callbacks=[*method.callbacks(), clock],
    )
    trainer.fit(module, Text(folder, order=seed))
    return student, clock
