"""The state of the loops between optimizer steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from kdlight.callbacks.resume.progress import between_steps, loader_states, progress
from tests.support import resume_fit, toy


class Recorder(Callback):
    def __init__(self) -> None:
        self.between: list[bool] = []
        self.positions: list[int] = []
        self.first: Any = "not called"

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.first = progress(trainer)

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        self.between.append(between_steps(trainer))
        if self.between[-1]:
            (loader,) = loader_states(progress(trainer))
            self.positions.append(loader["batches"])


def record(folder: Path, **options: Any) -> Recorder:
    recorder = Recorder()
    trainer = toy.trainer(folder, callbacks=[recorder], limit_val_batches=0, **options)
    trainer.fit(resume_fit.module(), resume_fit.NoisyData(10))  # 5 batches of 2
    return recorder


def test_accumulation_is_not_between_steps(tmp_path: Path) -> None:
    assert record(tmp_path, accumulate_grad_batches=2).between == [False, True, False, True, True]


def test_the_position_is_that_of_the_batches_trained_on(tmp_path: Path) -> None:
    # Lightning has fetched one batch more, which is not counted; the epoch ends at 0
    assert record(tmp_path).positions == [1, 2, 3, 4, 0]


def test_before_the_first_step_there_is_nothing_to_resume_from(tmp_path: Path) -> None:
    assert record(tmp_path).first is None
    assert loader_states(None) == []
