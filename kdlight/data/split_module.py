"""A data module of training and validation samples that are loaded once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from kdlight.checks import check_integer
from kdlight.data.loaders import eval_loader, train_loader

SEEDS = (-(2**63), 2**64 - 1)
"""The seeds that `torch.Generator` takes."""


class SplitDataModule(LightningDataModule):
    """Training and validation samples; the test set is the validation set.

    A subclass implements `load_parts`. The training samples have a new order every epoch, the
    validation samples a fixed one, with the same number of samples on each rank.

    Args:
        batch_size: number of samples in a training batch.
        eval_batch_size: number of samples in a validation batch; None for ``batch_size``.
        seed: seed of the split and of the order of the training samples.
        num_workers: number of worker processes.

    Raises:
        TypeError: If a number is no integer.
        ValueError: If a batch size is below 1, the number of workers is negative, or PyTorch cannot
            use the seed.

    Example:
        >>> class Numbers(SplitDataModule):
        ...     def load_parts(self):
        ...         return range(6), range(6, 8)
        >>> next(iter(Numbers(batch_size=2).val_dataloader()))
        tensor([6, 7])
    """

    def __init__(
        self,
        *,
        batch_size: int,
        eval_batch_size: int | None = None,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        check_integer("batch_size", batch_size, 1)
        if eval_batch_size is not None:
            check_integer("eval_batch_size", eval_batch_size, 1)
        check_integer("num_workers", num_workers, 0)
        check_integer("seed", seed, *SEEDS)
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size or batch_size
        self.seed = seed
        self.num_workers = num_workers
        self._parts: tuple[Any, Any] | None = None

    def load_parts(self) -> tuple[Any, Any]:
        """Load the data, and return the training and the validation samples."""
        raise NotImplementedError(f"{type(self).__name__} does not define load_parts()")

    def collate_fn(self) -> Callable[[list[Any]], Any] | None:
        """Return the collator of a batch; None for the default of PyTorch."""
        return None

    def dataset(self, part: Any) -> Any:
        """Return the dataset of a part, by default the part itself."""
        return part

    def setup(self, stage: str | None = None) -> None:
        """Load the data, once."""
        if self._parts is None:
            self._parts = self.load_parts()

    @property
    def parts(self) -> tuple[Any, Any]:
        """The training and the validation samples, loaded on first access."""
        self.setup()
        assert self._parts is not None
        return self._parts

    def train_dataloader(self) -> DataLoader:
        """Return the training samples, in a new order every epoch."""
        return train_loader(
            self.dataset(self.parts[0]),
            batch_size=self.batch_size,
            seed=self.seed,
            num_workers=self.num_workers,
            collate_fn=self.collate_fn(),
        )

    def val_dataloader(self) -> Any:
        """Return the validation samples, in a fixed order; an empty list if there are none."""
        if not len(self.parts[1]):
            return []
        return eval_loader(
            self.dataset(self.parts[1]),
            trainer=self.trainer,
            batch_size=self.eval_batch_size,
            num_workers=self.num_workers,
            collate_fn=self.collate_fn(),
        )

    def test_dataloader(self) -> Any:
        """Return the validation samples."""
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader | list[DataLoader]:
        """Return the validation samples."""
        return self.val_dataloader()
