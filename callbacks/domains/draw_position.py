"""Where a run is in the draws of its domains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from kdlight.data.domains.domain_sampler import DomainSampler


class DrawPosition:
    """How many draws a run has trained on, and how many its loader has made.

    Both are the same on all ranks.

    Args:
        trainer: the trainer, in a fit.
        loader: its training loader.
        sampler: the sampler of this loader.
    """

    def __init__(self, trainer: Trainer, loader: DataLoader, sampler: DomainSampler) -> None:
        self.trainer, self.sampler = trainer, sampler
        self.draws_per_batch = (loader.batch_size or 1) * sampler.num_replicas
        self.batches_ahead = loader.num_workers * (loader.prefetch_factor or 0)

    def after_batch(self) -> int:
        """Return the number of the first draw after the batch that was begun last.

        Call it while the batch is trained on. Between two epochs, and where a run is resumed, the
        counters of the Trainer that it reads are partly those of the epoch before.
        """
        counts: Any = self.trainer.fit_loop.epoch_progress.current
        first = self.sampler.epoch_start(counts.processed)  # as Lightning tells samplers
        batches = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return first + min(batches * self.draws_per_batch, self.sampler.total_size)

    def next_free(self, trained: int) -> int:
        """Return the number of the first draw that no worker of the loader has made yet.

        Args:
            trained: the number of the first draw that was not trained on.
        """
        epoch = max(trained - 1, 0) // self.sampler.total_size
        end = self.sampler.epoch_start(epoch + 1)
        return min(trained + self.batches_ahead * self.draws_per_batch, end)

    def lag(self, trained: int) -> int:
        """Return the number of batches that are drawn already, but not trained on yet."""
        return -(-(self.next_free(trained) - trained) // self.draws_per_batch)

    def trained_ranges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Iterate over the draws between two that were trained on.

        With ``limit_train_batches``, the rest of an epoch is not.
        """
        size, batches = self.sampler.total_size, self.trainer.num_training_batches
        limit = int(min(size, batches * self.draws_per_batch))
        for epoch in range(start // size, -(-stop // size)):
            first = epoch * size
            yield max(start, first), min(stop, first + limit)
