"""A loss that is not finite, and a student that gets no gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from kdlight.modules import NonFiniteLossError
from kdlight.modules.guards import check_gradients
from tests.support import toy


class SetsNaN(Callback):
    """Sets a weight to NaN before one step."""

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 2:
            with torch.no_grad():
                pl_module.student.head.bias[0] = float("nan")


def test_a_non_finite_loss_stops_the_run_and_saves_its_state(tmp_path: Path) -> None:
    with pytest.raises(
        NonFiniteLossError, match=r"optimizer step 2 is nan.*Check the learning rate"
    ):
        toy.trainer(tmp_path, callbacks=[SetsNaN()]).fit(toy.module(), toy.loader(8))
    saved = torch.load(tmp_path / "non_finite_step=2.ckpt", weights_only=True)
    assert saved["global_step"] == 2


def test_a_student_without_gradients_raises() -> None:
    student = toy.ToyLM()
    with pytest.raises(RuntimeError, match=r"no gradient reached the sharded student \(ToyLM\)"):
        check_gradients(student)
    student.head.bias.grad = torch.zeros(toy.VOCABULARY)
    check_gradients(student)
