"""Estimated pitches are counted once each, with those of ignored frames left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from kdlight import DistillationModule, MultiLabel, SingleInput
from kdlight.callbacks.pitch_accuracy import PitchAccuracy
from kdlight.models.crepe import BINS, bin_cents
from kdlight.objectives import CrossEntropy
from tests.support import toy


class Tuner(nn.Module):
    """A network whose loudest bin is the number in the first sample."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(20.0))

    def forward(self, sound: Tensor) -> Tensor:
        return self.scale * (2 * nn.functional.one_hot(sound[:, 0].long(), BINS) - 1)


def batch(bins: list[int], errors: list[float], *, ignored: int | None = None) -> dict[str, Tensor]:
    """Return frames whose pitches are some cents above those that `Tuner` finds."""
    cents = bin_cents()[torch.tensor(bins)] + torch.tensor(errors)
    labels = nn.functional.one_hot(torch.tensor(bins), BINS)
    if ignored is not None:
        labels[ignored] = -100
    return {
        "sound": torch.tensor(bins).float().unsqueeze(-1).expand(-1, 4),
        "labels": labels,
        "pitch": (10 * 2 ** (cents / 1200)).float(),
    }


def validate(batches: list[Any], folder: Path, **options: Any) -> float:
    module = DistillationModule(MultiLabel(SingleInput(Tuner(), key="sound")), CrossEntropy())
    trainer = toy.trainer(folder, callbacks=[PitchAccuracy(**options)])
    loader: Any = torch.utils.data.DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
    (logged,) = trainer.validate(module, loader, verbose=False)
    return logged["val/pitch_accuracy"]


def test_frames_count_alike_in_batches_of_any_size(tmp_path: Path) -> None:
    batches = [batch([50, 100, 150], [0.0, 45.0, -55.0]), batch([200], [60.0])]
    assert validate(batches, tmp_path) == pytest.approx(2 / 4)
    assert validate(batches, tmp_path, tolerance=57.0) == pytest.approx(3 / 4)


def test_ignored_frames_do_not_count(tmp_path: Path) -> None:
    batches = [
        batch([50, 100], [0.0, 90.0], ignored=1),
        batch([7], [0.0], ignored=0),
        batch([20], [200.0]),
    ]
    assert validate(batches, tmp_path) == pytest.approx(1 / 2)


def test_what_it_cannot_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tolerance"):
        PitchAccuracy(0.0)
    without = {k: v for k, v in batch([5], [0.0]).items() if k != "pitch"}
    with pytest.raises(ValueError, match="'pitch' in Hz"):
        validate([without], tmp_path)
    with pytest.raises(ValueError, match="PitchAccuracy needs a kdlight.DistillationModule"):
        PitchAccuracy().setup(toy.trainer(tmp_path), LightningModule(), "fit")
