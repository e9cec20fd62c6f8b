"""Check that there are training batches, and enough of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lightning.fabric.utilities.data import sized_len
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities import CombinedLoader
from lightning.pytorch.utilities.model_helpers import is_overridden

from kdlight.doctor.findings import Finding, error, reason, warning
from kdlight.doctor.run_environment import RunEnvironment


class NoBatchError(Exception):
    """There is no training batch; the message gives the reason."""


def open_data(data: LightningDataModule | LightningModule) -> CombinedLoader:
    """Set up the training data like a fit, but without ``prepare_data``, which may write files.

    Raises:
        NoBatchError: the data cannot be set up.
    """
    try:
        if isinstance(data, LightningDataModule):
            data.setup("fit")
        return CombinedLoader(data.train_dataloader(), "max_size_cycle")
    except Exception as failure:  # user code may raise anything
        text = f"the training data cannot be opened: {reason(failure)}"
        prepares = is_overridden("prepare_data", data, LightningDataModule)
        if prepares and isinstance(failure, OSError):
            text += (
                " (prepare_data, which a fit calls first, was not called, as it may write files)"
            )
        raise NoBatchError(text) from failure


def first_batch(loader: CombinedLoader) -> Any:
    """Return the first training batch.

    Raises:
        NoBatchError: there is none, or loading it failed.
    """
    try:
        batch, _, _ = next(iter(loader))
    except StopIteration:
        raise NoBatchError(
            "the training data have no batch: less than one, with drop_last?"
        ) from None
    except Exception as failure:  # as above
        raise NoBatchError(f"the first training batch cannot be made: {reason(failure)}") from (
            failure
        )
    return batch


def check_amount(
    loader: CombinedLoader, trainer: Trainer, environment: RunEnvironment
) -> Iterator[Finding]:
    """Yield findings about data that do not fill a batch, or an optimizer step, on every rank."""
    ranks = environment.ranks
    for each in loader.flattened:
        samples, size = sized_len(getattr(each, "dataset", None)), getattr(each, "batch_size", None)
        if samples is not None and size is not None and samples < size * ranks:
            where = f" on each of {ranks} ranks" if ranks > 1 else ""
            yield warning(
                f"the training data have {samples} samples, less than one batch of {size}{where}:"
                " use more data or a smaller batch_size"
            )
    lengths = [length for each in loader.flattened if (length := sized_len(each)) is not None]
    if not lengths:
        return
    batches, limit = max(lengths) // ranks, trainer.limit_train_batches
    used = int(batches * limit) if isinstance(limit, float) else min(batches, limit)
    if batches and not used:
        yield error(
            f"trainer.limit_train_batches={limit} of {batches} training batches leaves no batch"
        )
    elif used and used < trainer.accumulate_grad_batches:
        yield warning(
            f"an epoch has {used} batches, less than"
            f" accumulate_grad_batches={trainer.accumulate_grad_batches}: an optimizer step uses"
            " fewer batches than configured"
        )
