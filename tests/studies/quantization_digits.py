"""The digits part of the study of quantization."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import nn

from kdlight import DistillationModule, FrozenTeacher, SingleInput
from kdlight.data import DigitsDataModule
from kdlight.models import Quantized
from kdlight.models.digits import ConvNet
from kdlight.objectives import CrossEntropy, ForwardKL, Objective
from tests.studies.quantization_language import mean_and_error

BITS, EPOCHS, CHANNELS, TEMPERATURE = 2, 15, 8, 4.0
RATES = {"teacher": 1e-3, "student": 5e-3}

Figures = dict[str, float]
ROWS = {
    "full": "full precision, on a teacher",
    "rounded": "the same, rounded to 2 bits",
    "quantized": "2 bits, on a teacher",
    "labels": "2 bits, on the labels alone",
    "points": "4 learned points a layer, weights of the first row",
}


def fit(network: nn.Module, objective: Objective, teacher: Any, seed: int, lr: float) -> nn.Module:
    """Train a network for the same number of steps as all others."""
    module = DistillationModule(
        student=SingleInput(network),
        objective=objective,
        teacher=teacher,
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=lr, weight_decay=0.0),
    )
    torch.manual_seed(seed)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )
    trainer.fit(module, DigitsDataModule(seed=0))  # the same split for all
    return network


def make_teacher(folder: Path) -> nn.Module:
    """Return the trained teacher, from the folder if it is there."""
    torch.manual_seed(0)
    network, path = ConvNet(), folder / "digits_teacher.pt"
    if not path.exists():
        fit(network, CrossEntropy(), None, 0, RATES["teacher"])
        torch.save(network.state_dict(), path)
    network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval()


def measure(network: nn.Module, teacher: nn.Module) -> Figures:
    """Return the accuracy and the KL from the teacher on the validation images."""
    data = DigitsDataModule(seed=0)
    data.setup("fit")
    images, labels = data.validation_images.tensors
    with torch.no_grad():
        student, target = network.eval()(images), teacher(images)
    kl = nn.functional.kl_div(
        student.log_softmax(-1), target.log_softmax(-1), log_target=True, reduction="batchmean"
    )
    accuracy = (student.argmax(-1) == labels).double().mean()
    return {"accuracy": 100 * accuracy.item(), "kl": kl.item()}


def quantized(network: nn.Module, scheme: Any = "uniform") -> nn.Module:
    """Return a copy of a network with all of its layers quantized."""
    return Quantized(copy.deepcopy(network), bits=BITS, skip=[], scheme=scheme).build()


def run_seed(seed: int, teacher: nn.Module) -> dict[str, Figures]:
    """Train and measure all students of a seed, which start from the same weights."""
    torch.manual_seed(seed)
    start = ConvNet(channels=CHANNELS, dropout=0.0)
    rate, live = RATES["student"], FrozenTeacher(SingleInput(teacher))
    kd = ForwardKL(temperature=TEMPERATURE)
    full = fit(copy.deepcopy(start), kd, live, seed, rate)
    return {
        "full": measure(full, teacher),
        "rounded": measure(quantized(full), teacher),
        "quantized": measure(fit(quantized(start), kd, live, seed, rate), teacher),
        "labels": measure(fit(quantized(start), CrossEntropy(), None, seed, rate), teacher),
        "points": measure(fit(quantized(full, "points"), kd, live, seed, rate), teacher),
    }


def run(get: Callable[[str, Callable[[], Any]], Any], folder: Path, seeds: int) -> None:
    """Train and measure all that is missing."""
    teacher = make_teacher(folder)
    get("teacher", lambda: measure(teacher, teacher))
    for seed in range(seeds):
        get(f"seed {seed}", lambda seed=seed: run_seed(seed, teacher))


def table(results: dict[str, Any]) -> str:
    """Return a row for each student, with the paired difference from the rounded one."""
    runs = [value for name, value in results.items() if name.startswith("seed")]
    lines = ["| digits | accuracy, % | points over the rounded one | KL from the teacher |"]
    lines.append("| :-- | --: | --: | --: |")
    for key, name in ROWS.items():
        gains = [run[key]["accuracy"] - run["rounded"]["accuracy"] for run in runs]
        cells = (
            mean_and_error([run[key]["accuracy"] for run in runs], 1),
            "" if key == "rounded" else mean_and_error(gains, 1),
            mean_and_error([run[key]["kl"] for run in runs], 3),
        )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines.append(f"| the teacher | {results['teacher']['accuracy']:.1f} | | |")
    return "\n".join(lines)
