"""Loaders whose order is a function of seed and epoch, and which know how far they have come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch.utils.data import DataLoader, Dataset, Sampler

from kdlight.data.padded import PaddedToWorldSize


class EpochSampler(Sampler[int]):
    """A new order every epoch, from the seed and the epoch alone.

    It draws nothing from the global random numbers, so that data order and dropout do not depend on
    each other, and an epoch can be entered again without the ones before it.

    Args:
        size: number of samples.
        seed: one order of epochs per seed.

    Example:
        >>> sampler = EpochSampler(3, seed=0)
        >>> list(sampler) == list(sampler)
        True
    """

    def __init__(self, size: int, *, seed: int) -> None:
        self.size = size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this at the start of every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        # the seed alone would give seed 0, epoch 1 the order of seed 1, epoch 0
        mixed = torch.Generator().manual_seed(self.seed)
        offset = int(torch.randint(2**62, (), generator=mixed))
        generator = torch.Generator().manual_seed(offset + self.epoch)
        yield from torch.randperm(self.size, generator=generator).tolist()


class ResumableLoader(DataLoader):
    """A data loader that is saved with the training loop and goes on where it stood.

    Lightning saves and loads ``state_dict`` with the checkpoint; without it a run that is resumed
    within an epoch would see the first batches of the epoch again. It takes the arguments of
    `torch.utils.data.DataLoader`; the order must be a function of the epoch, as that of
    `EpochSampler` and `torch.utils.data.DistributedSampler` is, or always the same.
    """

    _seen = 0
    _resume: dict[str, int] | None = None

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many of its batches were handed out."""
        return {"epoch": self._epoch, "batches": self._seen}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Skip, in the epoch of ``state``, what was handed out before it was saved."""
        self._resume = dict(state)
        if (set_epoch := getattr(self.sampler, "set_epoch", None)) is not None:
            set_epoch(state["epoch"])

    def __iter__(self) -> Any:
        # a generator starts with the first batch, by then the epoch of the sampler is known
        resume, self._resume = self._resume, None
        skip = resume["batches"] if resume and resume["epoch"] == self._epoch else 0
        # what the skipped batches draw at random was drawn before the interruption
        with isolate_rng() if skip else nullcontext():
            batches = super().__iter__()
            self._seen = sum(1 for _ in islice(batches, skip))
        for batch in batches:
            self._seen += 1
            yield batch

    @property
    def _epoch(self) -> int:
        return getattr(self.sampler, "epoch", 0)


def train_loader(
    dataset: Dataset, *, size: int, batch_size: int, seed: int, num_workers: int = 0
) -> ResumableLoader:
    """Batches in a new order every epoch; the last one may be smaller, none is left out."""
    return ResumableLoader(
        dataset,
        batch_size=batch_size,
        sampler=EpochSampler(size, seed=seed),
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        generator=torch.Generator().manual_seed(seed),  # else every epoch draws a global number
    )


def eval_loader(
    dataset: Dataset, *, trainer: Trainer | None, batch_size: int, num_workers: int = 0
) -> DataLoader:
    """Batches in order; the ranks of ``trainer`` get as many each, and no sample counts twice."""
    ranks = (trainer and trainer.distributed_sampler_kwargs) or {}
    return DataLoader(
        PaddedToWorldSize(dataset, ranks=ranks.get("num_replicas", 1)),
        batch_size=batch_size,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        generator=torch.Generator().manual_seed(0),
    )
