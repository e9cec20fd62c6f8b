"""A fit on tokens of the student that gets those of the data is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from kdlight import DistillationModule
from kdlight.callbacks import OnPolicy
from kdlight.objectives import CrossEntropy, ReverseKL, SampledReverseKL, Weighted
from tests.callbacks.test_on_policy import loader, module
from tests.support import toy


class Replaces(Callback):
    changes_batches = True


class OwnStep(DistillationModule):
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return super().training_step(batch, batch_idx)


def test_labels_of_the_data_are_refused(tmp_path: Path) -> None:
    mixture = Weighted({"kd": SampledReverseKL(), "ce": CrossEntropy()})
    for objective in (SampledReverseKL(), mixture):
        with pytest.raises(ValueError, match="no callback replaces those of the data"):
            toy.trainer(tmp_path).fit(module(objective), loader())


@pytest.mark.parametrize("callback", [OnPolicy, Replaces])
def test_a_callback_may_replace_them(callback: Any, tmp_path: Path) -> None:
    toy.trainer(tmp_path, callbacks=[callback()]).fit(module(SampledReverseKL()), loader())


def test_a_training_step_of_its_own_may_draw_them(tmp_path: Path) -> None:
    made = module()
    own = OwnStep(made.student, SampledReverseKL(), module().teacher)
    toy.trainer(tmp_path).fit(own, loader())


def test_an_evaluation_reads_none(tmp_path: Path) -> None:
    """It has the reverse KL of the same positions, whatever their labels are."""
    found = []
    for objective in (SampledReverseKL(temperature=2.0), ReverseKL(temperature=2.0)):
        trainer = toy.trainer(tmp_path)
        trainer.validate(module(objective), loader(), verbose=False)
        found.append({name: float(value) for name, value in trainer.callback_metrics.items()})
    assert found[0]["val/loss"] == pytest.approx(found[1]["val/loss"])
    assert found[0]["val/loss"] > 0.1
