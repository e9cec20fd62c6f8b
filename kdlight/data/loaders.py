"""Data loaders with an order per epoch that can be resumed within an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import islice
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch.utils.data import DataLoader, Sampler

from kdlight.data.padded import PaddedToWorldSize


class EpochSampler(Sampler[int]):
    """Draws a new random order every epoch, from the seed and the number of the epoch only.

    It does not use the global random state. So data order and dropout do not depend on each other,
    and any epoch can be drawn without the epochs before it.

    Args:
        size: number of samples.
        seed: seed of the orders of all epochs.

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
        """Set the epoch; Lightning calls this at the start of every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        # seed + epoch would give seed 0, epoch 1 the order of seed 1, epoch 0
        seed_generator = torch.Generator().manual_seed(self.seed)
        offset = int(torch.randint(2**62, (), generator=seed_generator))
        generator = torch.Generator().manual_seed(offset + self.epoch)
        yield from torch.randperm(self.size, generator=generator).tolist()


class ResumableLoader(DataLoader):
    """A data loader whose progress is saved with the training loop.

    Lightning saves and loads ``state_dict`` with the checkpoint. Without it, a run that is resumed
    within an epoch would see the first batches of the epoch again. It takes the arguments of
    `torch.utils.data.DataLoader`. The order must be fixed, or a function of the epoch like that of
    `EpochSampler` and `torch.utils.data.DistributedSampler`.

    Attributes:
        looked_at: number of batches that were yielded, but are not trained on yet.
    """

    looked_at = 0
    _yielded = 0
    _resume: dict[str, int] | None = None

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of its batches that were yielded."""
        return {"epoch": self._epoch, "batches": self._yielded - self.looked_at}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Skip the batches of the epoch in ``state`` that were yielded before it was saved."""
        self._resume = dict(state)
        if (set_epoch := getattr(self.sampler, "set_epoch", None)) is not None:
            set_epoch(state["epoch"])

    def __iter__(self) -> Any:
        # a generator starts with the first batch; by then the epoch of the sampler is set
        resume, self._resume = self._resume, None
        skip = resume["batches"] if resume and resume["epoch"] == self._epoch else 0
        # the random numbers of skipped batches were drawn before the interruption
        with isolate_rng() if skip else nullcontext():
            batches = super().__iter__()
            self._yielded = sum(1 for _ in islice(batches, skip))
            self.looked_at = 0
        for batch in batches:
            self._yielded += 1
            yield batch

    @property
    def _epoch(self) -> int:
        return getattr(self.sampler, "epoch", 0)


def train_loader(
    dataset: Any,
    *,
    batch_size: int,
    seed: int,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    sampler: Sampler[int] | None = None,
) -> ResumableLoader:
    """Return batches in a new order every epoch; the last batch may be smaller.

    Args:
        dataset: samples, with a length.
        batch_size: number of samples in a batch.
        seed: seed of the order of the samples.
        num_workers: number of worker processes.
        collate_fn: from a list of samples to a batch; None for the default of PyTorch.
        sampler: the order of the samples, if it is another one, with ``epoch`` and ``set_epoch``.
    """
    return ResumableLoader(
        dataset,
        batch_size=batch_size,
        sampler=EpochSampler(len(dataset), seed=seed) if sampler is None else sampler,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        collate_fn=collate_fn,
        generator=torch.Generator().manual_seed(seed),  # else every epoch draws a global number
    )


def eval_loader(
    dataset: Any,
    *,
    trainer: Trainer | None,
    batch_size: int,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
) -> DataLoader:
    """Return batches in a fixed order, with the same number of samples on each rank.

    Samples are padded to a multiple of the number of ranks, see `PaddedToWorldSize`, so that none
    is counted twice.

    Args:
        dataset: samples, with a length.
        trainer: the trainer whose ranks share the samples; None for one rank.
        batch_size: number of samples in a batch.
        num_workers: number of worker processes.
        collate_fn: from a list of samples to a batch; None for the default of PyTorch.
    """
    sampler_kwargs = (trainer and trainer.distributed_sampler_kwargs) or {}
    return DataLoader(
        PaddedToWorldSize(dataset, ranks=sampler_kwargs.get("num_replicas", 1)),
        batch_size=batch_size,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        collate_fn=collate_fn,
        generator=torch.Generator().manual_seed(0),
    )
