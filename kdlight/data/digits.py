"""Handwritten digits: small real images that need no download."""

from __future__ import annotations

import torch
from torch.utils.data import TensorDataset

from kdlight.checks import check_integer
from kdlight.data.split_module import SplitDataModule
from kdlight.data.splits import check_validation_fraction

WHITE = 16.0  # the largest value of a pixel in scikit-learn's images


class DigitsDataModule(SplitDataModule):
    """scikit-learn's 1,797 handwritten digits as pairs of images and labels.

    Images are ``(B, 1, 8, 8)`` in [0, 1], labels ``(B,)`` from 0 to 9. The split is stratified by
    label. The test set is the validation set.

    Args:
        batch_size: number of images in a training batch.
        eval_batch_size: number of images in a validation batch.
        validation_fraction: fraction of the images to validate on.
        seed: seed of the split and of the order of the training images.
        num_workers: number of worker processes; the images are in memory, so 0 is fast.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If an argument is out of range.

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
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            num_workers=num_workers,
        )
        check_integer("seed", seed, 0, 2**32 - 1)  # which scikit-learn takes
        check_validation_fraction(validation_fraction)
        self.validation_fraction = validation_fraction

    def load_parts(self) -> tuple[TensorDataset, TensorDataset]:
        """Load and split the images."""
        try:
            from sklearn.datasets import load_digits
            from sklearn.model_selection import train_test_split
        except ImportError as error:
            raise ImportError(
                "DigitsDataModule needs scikit-learn: pip install 'kdlight[demo]'"
            ) from error
        images, labels = load_digits(return_X_y=True)
        parts = train_test_split(
            torch.tensor(images / WHITE, dtype=torch.float32).view(-1, 1, 8, 8),
            torch.tensor(labels, dtype=torch.long),
            test_size=self.validation_fraction,
            stratify=labels,
            random_state=self.seed,
        )
        train_x, validation_x, train_y, validation_y = map(torch.as_tensor, parts)
        return TensorDataset(train_x, train_y), TensorDataset(validation_x, validation_y)

    @property
    def train_images(self) -> TensorDataset:
        """The training images and their labels."""
        return self.parts[0]

    @property
    def validation_images(self) -> TensorDataset:
        """The validation images and their labels, which are also the test images."""
        return self.parts[1]
