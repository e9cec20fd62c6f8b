"""One run of the study in fusion.py: three teachers, a way to fuse them, and a student measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from kdlight import DistillationModule, SingleInput, TeacherEnsemble
from kdlight.callbacks import BilevelUpdate
from kdlight.metrics import ExpectedCalibrationError, predictions
from kdlight.models.digits import ConvNet, TinyNet
from kdlight.objectives import (
    CrossEntropy,
    ForwardKL,
    Objective,
    RoutedKD,
    TGeoKD,
    Weighted,
)
from tests.studies.fusion_data import BATCH, Digits

OWN = {"low": (0, 1, 2, 3), "middle": (4, 5, 6), "high": (7, 8, 9)}
"""The digits that a teacher has seen all training images of."""

OTHERS, WIDTH = 0.04, 32
EPOCHS, TEACHER_EPOCHS, LR, TEMPERATURE = 20, 20, 1e-2, 2.0
RATIO_LR = 0.01

Figures = dict[str, float]


def _mixed(kd: Objective, ce: float = 0.5) -> Objective:
    """Half the teachers and half the labels, which is a ratio of one half of the learned fusion."""
    return Weighted({"kd": kd, "ce": CrossEntropy()}, {"kd": 1 - ce, "ce": ce})


def _kl() -> ForwardKL:
    return ForwardKL(temperature=TEMPERATURE)


def _routed() -> Objective:
    return _mixed(RoutedKD([*OWN], divergence=_kl(), gate_input="net:input"))


LABELS, BEST, AVERAGE = "labels alone", "single best teacher", "average"
MORE, LEARNED = "average, and the validation images as well", "learned fusion"
WAYS: dict[str, Callable[[], Objective]] = {
    LABELS: CrossEntropy,
    BEST: lambda: _mixed(_kl()),
    AVERAGE: lambda: _mixed(_kl()),
    "confidence": lambda: _mixed(_kl()),
    "entropy": lambda: _mixed(_kl()),
    "routed": _routed,
    LEARNED: lambda: TGeoKD(temperature=TEMPERATURE, classes=10),
    MORE: lambda: _mixed(_kl()),
}


def fit(
    network: nn.Module,
    objective: Objective,
    teacher: Any,
    data: Any,
    *,
    epochs: int,
    lr: float = LR,
    callbacks: list[Callback] | None = None,
) -> DistillationModule:
    """Train a network, and return the module that did."""
    module = DistillationModule(
        SingleInput(network),
        objective,
        teacher,
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=lr),
    )
    # nothing reads the log, which would take half of the time
    module.log = module.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign]
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=callbacks or [],
    )
    trainer.fit(module, data)
    return module


def make_teachers(seed: int, folder: Path, epochs: int = TEACHER_EPOCHS) -> dict[str, nn.Module]:
    """Train three networks on right labels, each on few images of the others' digits; once."""
    data = Digits(seed, 0.0)
    images, labels = data.digits.train_images.tensors
    found: dict[str, nn.Module] = {}
    for number, (name, own) in enumerate(OWN.items()):
        generator = torch.Generator().manual_seed(10 * seed + number)
        is_own = torch.isin(labels, torch.tensor(own))
        kept = is_own | (torch.rand(len(labels), generator=generator) < OTHERS)
        torch.manual_seed(10 * seed + number)
        network, path = ConvNet(channels=8), folder / f"teacher_{name}_{seed}.pt"
        if not path.exists():
            loader = DataLoader(
                TensorDataset(images[kept], labels[kept]), BATCH, shuffle=True, generator=generator
            )
            fit(network, CrossEntropy(), None, loader, epochs=epochs)
            torch.save(network.state_dict(), path)
        network.load_state_dict(torch.load(path, weights_only=True))
        found[name] = network.eval()
    return found


def run(
    way: str, noise: float, seed: int, folder: Path, epochs: int, teacher_epochs: int
) -> Figures:
    """Train a student in one way, and measure it on the test images."""
    networks = make_teachers(seed, folder, teacher_epochs)
    data = Digits(seed, noise, more=way == MORE)
    teacher: Any = None
    if way == BEST:
        on_validation = {name: measure(each, data.validation) for name, each in networks.items()}
        best = max(networks, key=lambda name: on_validation[name]["accuracy"])
        teacher = SingleInput(networks[best])
    elif way != LABELS:
        weigh_by = way if way in ("confidence", "entropy") else None
        each = {name: SingleInput(network) for name, network in networks.items()}
        teacher = TeacherEnsemble(each, weigh_by=weigh_by)
    torch.manual_seed(seed)
    student, objective = TinyNet(width=WIDTH), WAYS[way]()
    callbacks: list[Callback] = [BilevelUpdate(lr=RATIO_LR)] if way == LEARNED else []
    module = fit(student, objective, teacher, data, epochs=epochs, callbacks=callbacks)
    return measure(student, data.test) | ratios(module, data)


@torch.no_grad()
def measure(network: nn.Module, images: TensorDataset) -> Figures:
    """The accuracy and the calibration error of a network, in percent."""
    x, labels = images.tensors
    confidence, correct = predictions(network.eval()(x), labels)
    error = ExpectedCalibrationError()
    error.update(confidence, correct)
    return {"accuracy": 100 * correct.double().mean().item(), "ece": 100 * error.compute().item()}


@torch.no_grad()
def ratios(module: DistillationModule, data: Digits) -> Figures:
    """The mean ratio of the teacher that was learned, by who is right in training; or nothing."""
    objective = module.objective
    if not isinstance(objective, TGeoKD):
        return {}
    images, labels = data.digits.train_images.tensors
    inputs = module.loss_inputs((images, labels))
    assert inputs.teacher is not None
    teacher = inputs.teacher.logits()
    features = objective.features(inputs.student.logits(), teacher, labels)
    ratio = objective.network(features)
    taught, labelled = teacher.argmax(-1) == data.true, labels == data.true
    groups = {
        "both right": taught & labelled,
        "teacher wrong": ~taught & labelled,
        "label wrong": taught & ~labelled,
    }
    return {
        f"ratio, {name}": ratio[rows].mean().item() for name, rows in groups.items() if rows.any()
    }


def teacher_figures(seed: int, folder: Path, teacher_epochs: int = TEACHER_EPOCHS) -> Figures:
    """The accuracy of each teacher and of their average on the test images, in percent."""
    networks, test = make_teachers(seed, folder, teacher_epochs), Digits(seed, 0.0).test
    found = {name: measure(each, test)["accuracy"] for name, each in networks.items()}
    ensemble = TeacherEnsemble({name: SingleInput(each) for name, each in networks.items()})
    correct = ensemble((test.tensors[0],)).logits().argmax(-1) == test.tensors[1]
    return {**found, AVERAGE: 100 * correct.double().mean().item()}
