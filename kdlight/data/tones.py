"""Harmonic tones whose pitch is known: sound that needs no recordings and no download."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from kdlight.checks import check_finite, check_integer, check_positive
from kdlight.data.split_module import SplitDataModule
from kdlight.models.crepe import FRAME, bin_cents, frequency_to_cents

RATE = 16_000
"""Samples per second."""

HARMONICS = 24
WIDTH = 25.0  # standard deviation of the blurred targets of the paper, in cents


def tone_frames(
    count: int, *, lowest: float, highest: float, seed: int | tuple[int, ...] = 0
) -> tuple[Tensor, Tensor]:
    """Return frames of tones ``(count, 1024)`` in float32, and their pitches ``(count,)`` in Hz.

    A tone has up to 24 harmonics below 8 kHz with random phases and amplitudes, which decrease as a
    power of their number, vibrato of up to 50 cents at 4 to 7 Hz, and white noise at 0 to 30 dB
    below it. Its pitch is that in the middle of the frame. A frame has mean 0 and standard
    deviation 1, as CREPE reads it.

    Args:
        count: number of frames.
        lowest: lowest pitch in Hz before vibrato; pitches are uniform on a logarithmic scale.
        highest: highest pitch in Hz before vibrato.
        seed: the frames are a function of it and of the other arguments.

    Example:
        >>> frames, pitches = tone_frames(3, lowest=100.0, highest=200.0)
        >>> frames.shape, pitches.shape
        (torch.Size([3, 1024]), torch.Size([3]))
    """
    random = np.random.default_rng(seed)
    column = (count, 1)
    base = np.exp(random.uniform(np.log(lowest), np.log(highest), column))
    depth, speed = random.uniform(0, 50, column), random.uniform(4, 7, column)
    start = random.uniform(0, 2 * np.pi, column)
    time = (np.arange(FRAME) - FRAME / 2) / RATE  # 0 in the middle
    frequency = base * 2 ** (depth * np.sin(2 * np.pi * speed * time + start) / 1200)
    phase = 2 * np.pi * np.cumsum(frequency, axis=1) / RATE
    decrease = random.uniform(0.3, 2.0, column)
    sound = np.zeros((count, FRAME))
    for number in range(1, HARMONICS + 1):
        amplitude = random.uniform(0.2, 1.0, column) / number**decrease
        amplitude = amplitude * (number * frequency < RATE / 2)  # no aliasing
        sound += amplitude * np.sin(number * phase + random.uniform(0, 2 * np.pi, column))
    sound /= sound.std(axis=1, keepdims=True)
    noise = random.standard_normal((count, FRAME))
    sound += noise * 10 ** (-random.uniform(0, 30, column) / 20)
    sound -= sound.mean(axis=1, keepdims=True)
    sound /= sound.std(axis=1, keepdims=True)
    return torch.from_numpy(sound).float(), torch.from_numpy(frequency[:, FRAME // 2]).float()


class Tones(Dataset):
    """Frames of tones with the labels of their pitches.

    A sample is a dict of ``sound`` ``(1024,)``, ``labels`` ``(360,)``: 1 for the bins of CREPE
    within 25 cents of the pitch, else 0; and ``pitch`` ``()`` in Hz.

    Args:
        frames: the frames ``(N, 1024)``.
        pitches: their pitches ``(N,)`` in Hz.

    Example:
        >>> tones = Tones(*tone_frames(2, lowest=100.0, highest=200.0))
        >>> sorted(tones[0]), int(tones[0]["labels"].sum()) in (2, 3)
        (['labels', 'pitch', 'sound'], True)
    """

    def __init__(self, frames: Tensor, pitches: Tensor) -> None:
        self.frames, self.pitches = frames, pitches
        distance = (frequency_to_cents(pitches.double()).unsqueeze(-1) - bin_cents()).abs()
        self.labels = (distance <= WIDTH).long()

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {
            "sound": self.frames[index],
            "labels": self.labels[index],
            "pitch": self.pitches[index],
        }


class TonesDataModule(SplitDataModule):
    """Synthetic tones for pitch estimation with networks like `kdlight.models.crepe.Crepe`.

    Batches are dicts of ``sound`` ``(B, 1024)``: frames of 64 ms at 16 kHz, see `tone_frames`;
    ``labels`` ``(B, 360)``: 1 for the bins of CREPE within 25 cents of the pitch, which is the
    standard deviation of its blurred targets, else 0; and ``pitch`` ``(B,)`` in Hz. Every process
    makes the same sound from the seed.

    Args:
        frames: number of training frames.
        validation_frames: number of other frames to validate on.
        lowest: lowest pitch in Hz, at least 33.
        highest: highest pitch in Hz, at most 1900.
        batch_size: number of frames in a training batch.
        eval_batch_size: number of frames in a validation batch.
        seed: seed of the sound and of the order of the training frames, at least 0.
        num_workers: number of worker processes; the frames are in memory, so 0 is fast.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If an argument is out of range.

    Kim, Salamon, Li, Bello, "CREPE: A Convolutional Representation for Pitch Estimation", 2018,
    section 2.

    Example:
        >>> data = TonesDataModule(frames=8, validation_frames=4, batch_size=4)
        >>> batch = next(iter(data.train_dataloader()))
        >>> batch["sound"].shape, batch["labels"].shape
        (torch.Size([4, 1024]), torch.Size([4, 360]))
    """

    def __init__(
        self,
        *,
        frames: int = 1200,
        validation_frames: int = 240,
        lowest: float = 65.0,
        highest: float = 1050.0,
        batch_size: int = 16,
        eval_batch_size: int = 60,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            num_workers=num_workers,
        )
        check_integer("frames", frames, 1)
        check_integer("validation_frames", validation_frames, 1)
        check_integer("seed", seed, 0)
        for name, value in (("lowest", lowest), ("highest", highest)):
            check_positive(name, value)
            check_finite(name, value)
        if not 33 <= lowest < highest <= 1900:  # vibrato goes 3 % beyond; bins end at 2005 Hz
            raise ValueError(
                "lowest and highest must satisfy 33 <= lowest < highest <= 1900 Hz, the pitches of"
                f" CREPE's bins, got lowest={lowest} and highest={highest}"
            )
        self.frames, self.validation_frames = frames, validation_frames
        self.lowest, self.highest = lowest, highest

    def load_parts(self) -> tuple[Tones, Tones]:
        """Make the sound."""
        train, validation = (
            tone_frames(count, lowest=self.lowest, highest=self.highest, seed=(self.seed, part))
            for part, count in enumerate((self.frames, self.validation_frames))
        )
        return Tones(*train), Tones(*validation)
