"""The table of the memory of a rank, compared with a fit of the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback
from torch import Tensor

from kdlight import FrozenTeacher
from kdlight.doctor import RunEnvironment, examine
from kdlight.doctor.memory_rows import MemoryRow, step_rows, total_bytes, weight_rows
from kdlight.doctor.shard_factors import ShardFactors
from tests.support import toy
from tests.support.doctor_runs import OPTIMIZERS, known, make_data, make_module, rows


class Weigh(Callback):
    """Notes what is held before the optimizer's step."""

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.gradients = sum(p.grad.nbytes for p in pl_module.parameters() if p.grad is not None)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weights_gradients_and_optimizer_state_are_those_of_a_fit(
    optimizer: str, tmp_path: Path
) -> None:
    report = examine(make_module("toy", optimizer), make_data(), toy.trainer(tmp_path))
    weigh, module = Weigh(), make_module("toy", optimizer)
    trainer = toy.trainer(tmp_path, callbacks=[weigh], max_steps=1)
    trainer.fit(module, datamodule=make_data())
    (made,) = trainer.optimizers
    state = [v for kept in made.state.values() for v in kept.values() if isinstance(v, Tensor)]
    assert report.errors == []
    weights = sum(p.nbytes for p in module.student.parameters())
    assert known(report, "weights, trained") == weights
    assert known(report, "gradients") == weigh.gradients == weights
    assert known(report, "optimizer state") == sum(value.nbytes for value in state)
    assert isinstance(module.teacher, FrozenTeacher)
    teacher = module.teacher.model
    assert known(report, "teacher, weights") == sum(p.nbytes for p in teacher.parameters())
    assert rows(report)["teacher, weights"].note == "bfloat16"


def test_master_weights_are_float32_and_the_others_half() -> None:
    environment = RunEnvironment(None, devices=2)
    plain, masters = (
        {
            row.name: row.bytes
            for row in weight_rows(make_module("toy"), factors, environment, state=None)
        }
        for factors in (ShardFactors(), ShardFactors(optimizer=2, master_weights=True))
    )
    size = plain["weights, trained"]
    assert size is not None
    assert masters["weights, trained"] == size // 2
    assert masters["weights, again in float32"] == size // 2
    assert masters["optimizer state"] is None


def test_alternatives_and_unknown_rows_are_not_added_up() -> None:
    assert step_rows(5, None)[-1] == MemoryRow("logits", None)
    assert (
        total_bytes([MemoryRow("a", 3), MemoryRow("b", 4, alternative=True), *step_rows(5, None)])
        == 8
    )
