"""Check that all ranks have the same number of batches."""

from __future__ import annotations

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.utilities import CombinedLoader, rank_zero_warn
from torch.utils.data import DistributedSampler

from kdlight.distributed.ranks import gather_numbers


def check_training_batches(trainer: Trainer) -> None:
    """Raise a ValueError on all ranks if their numbers of training batches differ.

    All ranks take each optimizer step together, so a rank with one batch more would wait for the
    others forever. Data without a length cannot be checked.
    """
    counts = gather_numbers(trainer, trainer.num_training_batches)
    _check_equal(counts, "training", "trainer.limit_train_batches")


def check_evaluation_batches(trainer: Trainer) -> None:
    """Raise a ValueError on all ranks of a sharded network if their evaluation batches differ.

    Warn if a sampler repeats samples so that all ranks have equally many.
    """
    loaders = trainer.test_dataloaders if trainer.testing else trainer.val_dataloaders
    for loader in CombinedLoader(loaders).flattened:
        sampler = getattr(loader, "sampler", None)
        if isinstance(sampler, DistributedSampler):
            _warn_of_repeats(sampler)
    if not isinstance(trainer.strategy, (ModelParallelStrategy, FSDPStrategy)):
        return  # ranks evaluate independently; metrics are reduced once, at the end
    counts = trainer.num_test_batches if trainer.testing else trainer.num_val_batches
    for batches in counts:
        _check_equal(gather_numbers(trainer, batches), "evaluation", "trainer.limit_val_batches")


def _warn_of_repeats(sampler: DistributedSampler) -> None:
    samples, repeats = len(sampler.dataset), sampler.total_size - len(sampler.dataset)  # type: ignore[arg-type]
    if repeats > 0:
        rank_zero_warn(
            f"{repeats} of {samples} evaluation samples count twice, since {sampler.num_replicas}"
            " ranks do not divide them evenly. For exact numbers evaluate on one device, or use a"
            " sampler that repeats no sample (use_distributed_sampler=False)"
        )


def _check_equal(counts: list[float], kind: str, limit: str) -> None:
    fewest = min(counts)
    if max(counts) > fewest:
        raise ValueError(
            f"the ranks have different numbers of {kind} batches, {[*map(_show, counts)]}, and"
            " would wait for each other forever; let Lightning distribute the data"
            " (use_distributed_sampler=True), use a DistributedSampler, or set"
            f" {limit}={_show(fewest)}"
        )


def _show(count: float) -> int | float:
    return int(count) if count < float("inf") else count
