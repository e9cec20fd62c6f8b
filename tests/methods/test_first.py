"""FIRST: an overconfident teacher is calibrated before the distillation, in one fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from kdlight import DistillationModule, FrozenTeacher, SingleInput
from kdlight.cache import cache_teacher
from kdlight.callbacks import CalibrateTeacherFirst
from kdlight.metrics.calibration import ExpectedCalibrationError, predictions
from kdlight.objectives import TopKForwardKL
from tests.support import toy

N, D, V, SURE, EPOCHS = 3000, 6, 12, 5.0, 20


class Data(LightningDataModule):
    """Inputs, and labels that are drawn from a linear model: train, validation and test."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(N, D, generator=generator)
        self.weight = torch.randn(V, D, generator=generator)
        true = self.x @ self.weight.T
        self.y = torch.multinomial(true.softmax(-1), 1, generator=generator).flatten()

    def part(self, number: int) -> TensorDataset:
        rows = slice(number * N // 3, (number + 1) * N // 3)
        return TensorDataset(self.x[rows], self.y[rows])

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.part(0), 250)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.part(1), 500)


def ece(logits: Tensor, labels: Tensor) -> float:
    error = ExpectedCalibrationError()
    error.update(*predictions(logits, labels))
    return float(error.compute())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("tail", "cached", "criterion"),
    [("renormalise", False, "ece"), ("bucket", True, "nll")],
    ids=["live", "cached"],
)
def test_calibration_halves_the_error_and_the_student_follows(
    tail: Any, cached: bool, criterion: Any, tmp_path: Path
) -> None:
    data = Data()
    network = nn.Linear(D, V, bias=False)
    network.weight.data = SURE * data.weight  # five times too sure
    teacher: Any = FrozenTeacher(SingleInput(network))
    if cached:
        quiet = toy.trainer(tmp_path)
        teacher = cache_teacher(teacher, data, str(tmp_path / "cache"), k=5, bits=32, trainer=quiet)
    x, y = data.part(2).tensors

    def student_error(*callbacks: Any) -> float:
        torch.manual_seed(0)
        module = DistillationModule(
            SingleInput(nn.Linear(D, V)),
            TopKForwardKL(k=5, tail=tail),
            teacher,
            optimizer=lambda groups: torch.optim.Adam(groups, lr=0.2),
        )
        options = {"max_epochs": EPOCHS, "limit_val_batches": 4, "num_sanity_val_steps": 0}
        options["check_val_every_n_epoch"] = 2 * EPOCHS  # reading the cache takes most of the time
        toy.trainer(tmp_path, callbacks=list(callbacks), **options).fit(module, data)
        with torch.no_grad():
            return ece(module.student((x,)).logits(), y)

    calibrate = CalibrateTeacherFirst(criterion)
    raw, calibrated = student_error(), student_error(calibrate)
    assert calibrate.result is not None
    assert calibrate.temperature == pytest.approx(SURE, rel=0.25)
    target = calibrate.result["ece"]
    assert target["after"] < target["before"] / 2
    with torch.no_grad():  # on data that nothing has seen
        test = ece(network(x) / calibrate.temperature, y)
        assert test < ece(network(x), y) / 2
    assert calibrated < raw / 2
