"""Where a run is in the draws of its domains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from kdlight.data.domains.domain_sampler import DomainSampler


class DrawPosition:
    """How many draws a run has trained on, and how many its loader has made.

    All of it follows from the counters of the Trainer, and is the same on all ranks.

    Args:
        trainer: the trainer, in a fit.
        loader: its training loader.
        sampler: the sampler of this loader.
    """

    def __init__(self, trainer: Trainer, loader: DataLoader, sampler: DomainSampler) -> None:
        self.trainer, self.sampler = trainer, sampler
        self.draws_per_batch = (loader.batch_size or 1) * sampler.num_replicas
        self.batches_ahead = loader.num_workers * (loader.prefetch_factor or 0)

    def trained(self) -> int:
        """Return the number of the first draw that was not trained on."""
        return self._draw(self._batches)

    def next_free(self) -> int:
        """Return the number of the first draw that no worker of the loader has made yet."""
        return self._draw(self._batches + self.batches_ahead)

    def lag(self) -> int:
        """Return the number of batches that are drawn already, but not trained on yet."""
        return -(-(self.next_free() - self.trained()) // self.draws_per_batch)

    def trained_ranges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Iterate over the draws between two that were trained on.

        With ``limit_train_batches``, the rest of an epoch is not.
        """
        size, batches = self.sampler.total_size, self.trainer.num_training_batches
        limit = int(min(size, batches * self.draws_per_batch))
        for epoch in range(start // size, -(-stop // size)):
            first = epoch * size
            yield max(start, first), min(stop, first + limit)

    @property
    def _batches(self) -> int:
        return self.trainer.fit_loop.epoch_loop.batch_progress.current.ready

    def _draw(self, batches: int) -> int:
        counts: Any = self.trainer.fit_loop.epoch_progress.current
        epoch = counts.processed  # which is what Lightning tells samplers
        drawn = min(batches * self.draws_per_batch, self.sampler.total_size)
        return self.sampler.epoch_start(epoch) + drawn
