"""Handwritten digits: small real images that need no download."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset

from kdlight.data.loaders import eval_loader, train_loader


class DigitsDataModule(LightningDataModule):
    """scikit-learn's 1,797 handwritten digits as pairs of images and labels.

    Images are ``(B, 1, 8, 8)`` in [0, 1], labels ``(B,)`` from 0 to 9. The split keeps the share of
    every digit. The test set is the validation set.

    Args:
        batch_size: images of a training batch.
        eval_batch_size: images of a validation batch.
        validation_fraction: part of the images to validate on.
        seed: draws the validation images and the order of the training images.
        num_workers: worker processes; the images lie in memory, so 0 is quick.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> data = DigitsDataModule(batch_size=32)
        >>> images, labels = next(iter(data.train_dataloader()))
        >>> images.shape, labels.shape
        (torch.Size([32, 1, 8, 8]), torch.Size([32]))
    """

    def __init__(
        self,
        *,
        batch_size: int = 64,
        eval_batch_size: int = 512,
        validation_fraction: float = 0.2,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        if not 0.0 < validation_fraction < 1.0:
            raise ValueError(f"validation_fraction must be in (0, 1), got {validation_fraction}")
        for name, size in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.validation_fraction = validation_fraction
        self.seed = seed
        self.num_workers = num_workers
        self.train_images: TensorDataset | None = None
        self.validation_images: TensorDataset | None = None

    def setup(self, stage: str | None = None) -> None:
        """Load and split the images, once."""
        if self.train_images is not None:
            return
        try:
            from sklearn.datasets import load_digits
            from sklearn.model_selection import train_test_split
        except ImportError as error:
            raise ImportError(
                "the digits come with scikit-learn: pip install 'kdlight[demo]'"
            ) from error
        images, labels = load_digits(return_X_y=True)
        parts = train_test_split(
            torch.tensor(images / 16.0, dtype=torch.float32).view(-1, 1, 8, 8),  # 16 is ink
            torch.tensor(labels, dtype=torch.long),
            test_size=self.validation_fraction,
            stratify=labels,
            random_state=self.seed,
        )
        train_x, validation_x, train_y, validation_y = map(torch.as_tensor, parts)
        self.train_images = TensorDataset(train_x, train_y)
        self.validation_images = TensorDataset(validation_x, validation_y)

    def train_dataloader(self) -> DataLoader:
        """Training images, in an order of their own every epoch."""
        self.setup()
        assert self.train_images is not None
        return train_loader(
            self.train_images,
            size=len(self.train_images),
            batch_size=self.batch_size,
            seed=self.seed,
            num_workers=self.num_workers,
        )

    def val_dataloader(self) -> DataLoader:
        """Validation images, in order."""
        self.setup()
        assert self.validation_images is not None
        return eval_loader(
            self.validation_images,
            trainer=self.trainer,
            batch_size=self.eval_batch_size,
            num_workers=self.num_workers,
        )

    def test_dataloader(self) -> DataLoader:
        """The validation images."""
        return self.val_dataloader()
