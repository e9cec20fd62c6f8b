"""Handwritten digits: small real images that need no download."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from kdlight.checks import check_integer, check_range, check_type
from kdlight.data.label_noise import check_label_noise, with_wrong_labels
from kdlight.data.loaders import train_loader
from kdlight.data.split_module import SplitDataModule
from kdlight.data.splits import check_validation_fraction

WHITE = 16.0  # the largest value of a pixel in scikit-learn's images
CLASSES = 10


class DigitsDataModule(SplitDataModule):
    """scikit-learn's 1,797 handwritten digits as pairs of images and labels.

    Images are ``(B, 1, 8, 8)`` in [0, 1], labels ``(B,)`` from 0 to 9. The split is stratified by
    label. The test set is the validation set.

    Args:
        batch_size: number of images in a training batch.
        eval_batch_size: number of images in a validation batch.
        validation_fraction: fraction of the images to validate on.
        seed: seed of the split, of the order of the training images and of the wrong labels.
        num_workers: number of worker processes; the images are in memory, so 0 is fast.
        label_noise: share of the training images with a wrong label, which is any of the other nine
            classes, the same in every epoch. Labels to validate on are all right.
        trusted_fraction: share of the training images that are set apart, with right labels:
            `trusted_dataloader` serves them, and nothing trains the student on them.
        train_classes: the digits of the training images; None for all. Those to validate on are of
            all digits.

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
        label_noise: float = 0.0,
        trusted_fraction: float = 0.0,
        train_classes: list[int] | None = None,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            num_workers=num_workers,
        )
        check_integer("seed", seed, 0, 2**32 - 1)  # which scikit-learn takes
        check_validation_fraction(validation_fraction)
        check_label_noise(label_noise)
        self.validation_fraction = validation_fraction
        check_type("trusted_fraction", trusted_fraction, Real, "a number")
        check_range("trusted_fraction", trusted_fraction, 0.0, 1.0, open_high=True)
        self.label_noise, self.trusted_fraction = label_noise, trusted_fraction
        self.train_classes = None if train_classes is None else _checked_classes(train_classes)
        self._trusted: TensorDataset | None = None
        self._true_labels: Tensor | None = None

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
        if self.train_classes is not None:
            kept = torch.isin(train_y, torch.tensor(self.train_classes))
            train_x, train_y = train_x[kept], train_y[kept]
        apart = round(self.trusted_fraction * len(train_y))  # the order is random already
        self._trusted = TensorDataset(train_x[:apart], train_y[:apart])
        train_x, train_y = train_x[apart:], train_y[apart:]
        if not len(train_y):
            raise ValueError(
                f"trusted_fraction={self.trusted_fraction} sets all {apart} training images apart;"
                " lower it"
            )
        noisy = with_wrong_labels(train_y, share=self.label_noise, classes=CLASSES, seed=self.seed)
        self._true_labels = train_y
        return TensorDataset(train_x, noisy), TensorDataset(validation_x, validation_y)

    def trusted_dataloader(self) -> DataLoader:
        """Return the images that are set apart, in a new order every epoch.

        Raises:
            ValueError: If there are none.
        """
        self.setup()
        if not self._trusted:
            raise ValueError(
                "no images are set apart: trusted_fraction is"
                f" {self.trusted_fraction}; set it to a share such as 0.1"
            )
        return train_loader(
            self._trusted, batch_size=self.batch_size, seed=self.seed, num_workers=self.num_workers
        )

    @property
    def train_images(self) -> TensorDataset:
        """The training images and their labels."""
        return self.parts[0]

    @property
    def wrong_labels(self) -> Tensor:
        """Which training images have a wrong label, boolean ``(n,)``."""
        labels = self.train_images.tensors[1]
        assert self._true_labels is not None
        return labels != self._true_labels

    @property
    def validation_images(self) -> TensorDataset:
        """The validation images and their labels, which are also the test images."""
        return self.parts[1]


def _checked_classes(classes: Sequence[int]) -> list[int]:
    check_type("train_classes", classes, (list, tuple), "a list of digits")
    for number in classes:
        check_integer("train_classes", number, 0)
    if not len(classes) or len(set(classes)) < len(classes) or set(classes) - {*range(CLASSES)}:
        raise ValueError(
            f"train_classes must be different digits from 0 to {CLASSES - 1}, at least one, got"
            f" {classes}; None trains on all"
        )
    return list(classes)
