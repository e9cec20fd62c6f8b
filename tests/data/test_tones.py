"""Tones whose pitch is known: their sound, labels and split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kdlight.data.tones import RATE, Tones, TonesDataModule, tone_frames
from kdlight.models.crepe import bin_cents, frequency_to_cents


def test_frames_are_normalized_and_depend_on_the_seed_alone() -> None:
    frames, pitches = tone_frames(20, lowest=65.0, highest=1050.0, seed=1)
    again, same = tone_frames(20, lowest=65.0, highest=1050.0, seed=1)
    others, _ = tone_frames(20, lowest=65.0, highest=1050.0, seed=2)
    assert torch.equal(frames, again)
    assert torch.equal(pitches, same)
    assert not torch.equal(frames, others)
    assert frames.dtype == torch.float32
    torch.testing.assert_close(frames.mean(-1), torch.zeros(20), atol=1e-6, rtol=0.0)
    torch.testing.assert_close(frames.std(-1, correction=0), torch.ones(20), atol=1e-5, rtol=0.0)


def test_the_pitch_is_that_of_the_sound() -> None:
    """The energy of the sound lies at multiples of its pitch."""
    frames, pitches = tone_frames(100, lowest=200.0, highest=1000.0, seed=5)
    assert np.median(energy_at(frames, pitches)) > 0.9
    assert np.median(energy_at(frames, pitches * 1.1)) < 0.5


def energy_at(frames: Tensor, pitches: Tensor) -> list[float]:
    """Return the share of the energy of each frame that is near a multiple of its pitch."""
    shares, window = [], np.hanning(1024)
    for frame, pitch in zip(frames.numpy(), pitches.tolist(), strict=True):
        power = np.abs(np.fft.rfft(frame * window)) ** 2
        multiples = np.arange(len(power)) * RATE / 1024 / pitch
        is_near = np.abs(multiples - multiples.round()) * pitch < 32  # Hz, two bins of the FFT
        is_near &= multiples > 0.5
        shares.append(float(power[is_near].sum() / power.sum()))
    return shares


def test_pitches_are_in_the_range_with_vibrato() -> None:
    _, pitches = tone_frames(500, lowest=100.0, highest=400.0)
    cents = frequency_to_cents(pitches)
    low, high = frequency_to_cents(torch.tensor([100.0, 400.0]))
    assert low - 50 <= cents.min() < low + 100
    assert high - 100 < cents.max() <= high + 50
    assert (cents - (low + high) / 2).mean().abs() < 100  # uniform in cents


def test_labels_are_the_bins_near_the_pitch() -> None:
    tones = Tones(*tone_frames(30, lowest=65.0, highest=1050.0))
    for sample in (tones[i] for i in range(len(tones))):
        cents = frequency_to_cents(sample["pitch"].double())
        chosen = bin_cents()[sample["labels"] == 1]
        assert len(chosen) in (2, 3)
        assert (chosen - cents).abs().max() <= 25
        assert (bin_cents()[sample["labels"] == 0] - cents).abs().min() > 25


def test_training_and_validation_are_other_tones() -> None:
    data = TonesDataModule(frames=12, validation_frames=6, batch_size=4, eval_batch_size=3)
    train, validation = list(data.train_dataloader()), list(data.val_dataloader())
    assert [len(batch["sound"]) for batch in train] == [4, 4, 4]
    assert [len(batch["sound"]) for batch in validation] == [3, 3]
    assert set(train[0]) == {"sound", "labels", "pitch"}
    seen = {pitch for batch in train for pitch in batch["pitch"].tolist()}
    assert not seen & {pitch for batch in validation for pitch in batch["pitch"].tolist()}
    again = TonesDataModule(frames=12, validation_frames=6, batch_size=4).parts[0]
    assert torch.equal(again.frames, data.parts[0].frames)
    other = TonesDataModule(frames=12, validation_frames=6, batch_size=4, seed=1).parts[0]
    assert not torch.equal(other.frames, data.parts[0].frames)


@pytest.mark.parametrize(
    "wrong",
    [
        {"frames": 0},
        {"validation_frames": 0},
        {"lowest": 20.0},
        {"highest": 2000.0},
        {"lowest": 300.0, "highest": 200.0},
        {"lowest": float("nan")},
        {"seed": -1},
        {"batch_size": 0},
    ],
)
def test_arguments_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TonesDataModule(**wrong)
