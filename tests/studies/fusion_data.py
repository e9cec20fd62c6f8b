"""The data of the study in fusion.py: digits, some of them with a wrong label."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import ConcatDataset, DataLoader, Dataset, TensorDataset

from kdlight.data import DigitsDataModule

HELD_OUT, VALIDATION, BATCH = 0.5, 200, 64


class Digits(LightningDataModule):
    """Images to train on, some of which have wrong labels, to validate on, and to test on.

    Args:
        seed: seed of the split, of the wrong labels and of the order.
        noise: share of wrong labels to train on.
        more: train on the validation images, too, whose labels are right.
    """

    def __init__(self, seed: int, noise: float, *, more: bool = False) -> None:
        super().__init__()
        self.seed, self.more = seed, more
        options: dict[str, Any] = {"validation_fraction": HELD_OUT, "seed": seed}
        self.digits = DigitsDataModule(label_noise=noise, **options)
        self.digits.setup()
        right = DigitsDataModule(**options)
        right.setup()
        self.true = right.train_images.tensors[1]

    @cached_property
    def train(self) -> Dataset:
        images = self.digits.train_images
        return ConcatDataset([images, self.validation]) if self.more else images

    @property
    def validation(self) -> TensorDataset:
        return self._held_out(slice(None, VALIDATION))

    @property
    def test(self) -> TensorDataset:
        return self._held_out(slice(VALIDATION, None))

    def train_dataloader(self) -> DataLoader:
        generator = torch.Generator().manual_seed(self.seed)
        return DataLoader(self.train, BATCH, shuffle=True, generator=generator)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.validation, VALIDATION)

    def _held_out(self, rows: slice) -> TensorDataset:
        # stratified and in a random order
        images, labels = self.digits.validation_images.tensors
        return TensorDataset(images[rows], labels[rows])
