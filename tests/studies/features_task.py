"""One run of the study in features.py: a student of digits or of tones, trained and measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from kdlight import DistillationModule, FrozenTeacher, MultiLabel, SingleInput
from kdlight.data import DigitsDataModule
from kdlight.data.tones import Tones, tone_frames
from kdlight.features import Capture
from kdlight.losses import forward_kl
from kdlight.models.crepe import Crepe, estimated_cents, frequency_to_cents
from kdlight.models.digits import ConvNet
from kdlight.objectives import (
    AttentionTransfer,
    CrossEntropy,
    ForwardKL,
    HiddenStates,
    InterChannelCorrelation,
    LinearCKA,
    Objective,
    Relational,
    SimilarityPreserving,
    Weighted,
)


class Place(NamedTuple):
    """The features that are compared: after the last normalization, and after pooling."""

    maps: dict[str, str]
    pooled: dict[str, str]
    sizes: tuple[int, int]


PLACES = {
    "digits": Place({"net.5": "net.5"}, {"net.7": "net.7"}, (8, 64)),
    "tones": Place({"blocks.5.3": "maps"}, {"blocks.5": "pooled"}, (64, 512)),
}

LOGITS = "logits"
# name: an objective and its weight
FEATURES: dict[str, tuple[Callable[[Place], Objective], float]] = {
    "hidden states": (lambda at: HiddenStates(at.maps, sizes=at.sizes), 1.0),
    "attention transfer": (lambda at: AttentionTransfer(at.maps), 1000.0),
    "inter-channel correlation": (
        lambda at: InterChannelCorrelation(at.maps, sizes=at.sizes),
        2.5,
    ),
    "similarity-preserving": (lambda at: SimilarityPreserving(at.pooled), 3000.0),
    "relational": (lambda at: Relational(at.pooled, distance=25, angle=50), 1.0),
    "linear CKA": (lambda at: LinearCKA(at.pooled), 1.0),
}
METHODS = ("labels", LOGITS, *(f"{LOGITS} + {name}" for name in FEATURES), f"{LOGITS} + all six")


def objective(task: str, method: str) -> Objective:
    """The objective of a row of the table."""
    if method == "labels":
        return CrossEntropy()
    kd = ForwardKL(temperature=4.0 if task == "digits" else 1.0)
    terms: dict[str, Objective] = {"kd": kd}
    weights: dict[str, float] = {}
    for name, (make, weight) in FEATURES.items():
        if method.endswith((name, "all six")):
            key = name.replace(" ", "_")
            terms[key], weights[key] = make(PLACES[task]), weight
    return Weighted(terms, weights)


class RememberedTeacher(nn.Module):
    """A teacher that answered every sample once, with the features that are compared.

    Args:
        answers: logits, ``maps`` and ``pooled`` features of all samples, by ``index`` of a batch.
    """

    def __init__(self, answers: dict[str, Tensor]) -> None:
        super().__init__()
        self.answers = answers
        self.maps, self.pooled = nn.Identity(), nn.Identity()

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the logits of the samples of a batch."""
        index = batch["index"]
        self.maps(self.answers["maps"][index])
        self.pooled(self.answers["pooled"][index])
        return self.answers["logits"][index]


def fit(
    student: nn.Module,
    loss: Objective,
    teacher: nn.Module | None,
    data: Any,
    *,
    lr: float,
    epochs: int,
) -> None:
    """Train a student."""
    module = DistillationModule(
        student,
        loss,
        None if teacher is None else FrozenTeacher(teacher),
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=lr),
    )
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
    )
    trainer.fit(module, data)


def digits(method: str, seed: int, epochs: int, folder: Path) -> dict[str, float]:
    """Train a student of the digits, and measure it."""
    data = DigitsDataModule(validation_fraction=0.4, seed=seed)
    torch.manual_seed(seed)
    teacher = SingleInput(ConvNet(channels=32))
    fit(teacher, CrossEntropy(), None, data, lr=5e-3, epochs=20)
    torch.manual_seed(seed)
    student = SingleInput(ConvNet(channels=4, dropout=0.0))
    fit(student, objective("digits", method), teacher, data, lr=5e-3, epochs=epochs)
    assert data.validation_images is not None
    images, labels = data.validation_images.tensors
    ours, theirs = evaluated(student, (images,)), evaluated(teacher, (images,))
    return {
        "accuracy": 100 * (ours.argmax(-1) == labels).float().mean().item(),
        "kl": forward_kl(ours, theirs).mean().item(),
        "teacher": 100 * (theirs.argmax(-1) == labels).float().mean().item(),
    }


def answered_tones(folder: Path) -> dict[str, dict[str, Tensor]]:
    """Return tones with the answers of the published network, which are computed once."""
    path = folder / "tones.pt"
    if path.exists():
        return torch.load(path)
    teacher, found = Crepe("full", pretrained=True).eval(), {}
    for part, count, seed in (("train", 600, 0), ("held", 240, 1)):
        sound, pitch = tone_frames(count, lowest=65.0, highest=1050.0, seed=seed)
        rows: dict[str, list[Tensor]] = {"maps": [], "pooled": [], "logits": []}
        with torch.no_grad():
            for frames in sound.split(60):
                with Capture(teacher, ["blocks.5.3", "blocks.5"]) as features:
                    rows["logits"].append(as_binary(teacher(frames)))
                rows["maps"].append(features["blocks.5.3"])
                rows["pooled"].append(features["blocks.5"])
        answers = {name: torch.cat(values) for name, values in rows.items()}
        found[part] = {**answers, "sound": sound, "pitch": pitch}
    torch.save(found, path)
    return found


def tones(method: str, seed: int, epochs: int, folder: Path) -> dict[str, float]:
    """Train a student of CREPE, and measure it."""
    answers = answered_tones(folder)
    train, held = answers["train"], answers["held"]
    tones = Tones(train["sound"], train["pitch"])
    samples = [{**tones[i], "index": torch.tensor(i)} for i in range(len(tones))]
    torch.manual_seed(seed)
    student = MultiLabel(SingleInput(Crepe("tiny"), key="sound"))
    loader = DataLoader(samples, batch_size=16, shuffle=True)  # type: ignore[arg-type]
    teacher = RememberedTeacher(train)
    fit(student, objective("tones", method), teacher, loader, lr=2e-3, epochs=epochs)
    ours, theirs = evaluated(student, {"sound": held["sound"]}), held["logits"]
    pitch = frequency_to_cents(held["pitch"].double())
    near = [
        ((estimated_cents(each[..., 1] - each[..., 0]) - pitch).abs() <= 50).double().mean().item()
        for each in (ours, theirs)
    ]
    return {
        "accuracy": 100 * near[0],
        "kl": forward_kl(ours, theirs).mean().item(),
        "teacher": 100 * near[1],
    }


def as_binary(logits: Tensor) -> Tensor:
    """Return independent yes-or-no logits as those of two classes, like `kdlight.MultiLabel`."""
    return torch.stack((torch.zeros_like(logits), logits), -1)


@torch.no_grad()
def evaluated(network: nn.Module, batch: Any) -> Tensor:
    """The logits of a network in evaluation mode."""
    logits = network.eval()(batch)
    return logits if isinstance(logits, Tensor) else logits.logits()


TASKS = {"digits": digits, "tones": tones}
