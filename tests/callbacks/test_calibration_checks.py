"""Fits whose teacher cannot be calibrated, or whose objective would not follow, are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from kdlight import DistillationModule, LayerwiseDistillationModule
from kdlight.callbacks.calibration_checks import check_calibration, check_objective, check_target
from kdlight.objectives import (
    DPO,
    REDI,
    ULD,
    CrossEntropy,
    ForwardKL,
    HiddenStates,
    LearnableTemperature,
    MeanSquaredError,
    RoutedKD,
    SimPO,
    SinkhornKD,
    TopKForwardKL,
    Weighted,
)
from kdlight.sources import Dense
from tests.support import online_fit, toy

HIDDEN = {"layers.0": "layers.0"}
REFUSED: dict[str, tuple[Any, str]] = {
    "labels": (CrossEntropy, "the objective, CrossEntropy, needs none"),
    "outputs": (MeanSquaredError, "MeanSquaredError compares outputs themselves"),
    "a term": (
        lambda: Weighted({"kd": ForwardKL(), "mse": MeanSquaredError()}),
        "MeanSquaredError compares outputs themselves",
    ),
    "features": (lambda: HiddenStates(HIDDEN), "compares features only .HiddenStates."),
    "features and labels": (
        lambda: Weighted({"hidden": HiddenStates(HIDDEN), "ce": CrossEntropy()}),
        "compares features only .HiddenStates.",
    ),
    "a reference": (DPO, "in DPO the teacher is a reference"),
    "teachers apart": (lambda: RoutedKD(["a", "b"]), "RoutedKD learns from each of them apart"),
    "probabilities": (
        lambda: TopKForwardKL(tail="renormalise", recalibrate="probs"),
        "TopKForwardKL takes the softmax of probabilities",
    ),
    "teacher's own": (
        lambda: TopKForwardKL(temperature=2.0),
        "TopKForwardKL has one of its own, 2.0, beside 1.0",
    ),
    "student's own": (
        lambda: ULD(student_temperature=3.0),
        "ULD has one of its own, 1.0, beside 3.0",
    ),
}
ACCEPTED: dict[str, Any] = {
    "forward": ForwardKL,
    "both": lambda: TopKForwardKL(temperature=2.0, student_temperature=2.0),
    "sum": lambda: Weighted({"kd": ForwardKL(temperature=4.0), "ce": CrossEntropy()}),
    "with features": lambda: Weighted({"kd": ForwardKL(), "hidden": HiddenStates(HIDDEN)}),
    "learned": LearnableTemperature,
    "sinkhorn": SinkhornKD,
    "traces": lambda: REDI(kd=ForwardKL()),
    "preferences": lambda: Weighted({"kd": ForwardKL(), "pairs": SimPO()}),
    "other tokens": ULD,
}


@pytest.mark.parametrize("name", REFUSED)
def test_objectives_that_would_not_learn_the_calibrated_confidence(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=f"CalibrateTeacherFirst .*{message}"):
        check_objective(make())


@pytest.mark.parametrize("name", ACCEPTED)
def test_objectives_that_would(name: str) -> None:
    check_objective(ACCEPTED[name]())


def test_modules_without_a_teacher() -> None:
    run = Trainer(accelerator="cpu", barebones=True)
    for module, message in (
        (LightningModule(), "needs a kdlight.DistillationModule, .* got LightningModule"),
        (DistillationModule(toy.ToyLM(), CrossEntropy()), "a DistillationModule, has none"),
        (online_fit.module(), "a OnlineDistillationModule, has none"),
        (
            LayerwiseDistillationModule(
                toy.ToyLM(), toy.ToyLM(seed=2), pairs={"layers.0": "layers.0"}
            ),
            "compares features only",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            check_calibration(run, module)


def test_a_teacher_with_positions_of_its_own() -> None:
    source = Dense(torch.zeros(1, 3, 5))
    check_target(source, {"input_ids": torch.zeros(1, 3)})
    with pytest.raises(ValueError, match="another tokenizer and positions of its own"):
        check_target(source, {"teacher_mask": torch.ones(1, 4, dtype=torch.bool)})
