"""Are there batches, and full ones?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lightning.fabric.utilities.data import sized_len
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities import CombinedLoader
from lightning.pytorch.utilities.model_helpers import is_overridden

from kdlight.doctor.findings import Finding, error, reason, warning
from kdlight.doctor.setting import Setting


class NoBatch(Exception):
    """There is no training batch to look at; says why."""


def open_data(data: LightningDataModule | LightningModule) -> CombinedLoader:
    """The training data, set up as a fit does, but not fetched: ``prepare_data`` may write.

    Raises:
        NoBatch: it cannot be opened.
    """
    try:
        if isinstance(data, LightningDataModule):
            data.setup("fit")
        return CombinedLoader(data.train_dataloader(), "max_size_cycle")
    except Exception as failure:  # code of somebody's own may raise anything
        text = f"the training data cannot be opened: {reason(failure)}"
        if is_overridden("prepare_data", data, LightningDataModule) and isinstance(
            failure, OSError
        ):
            text += (
                " (prepare_data, which a fit calls first, was not called, as it may write files)"
            )
        raise NoBatch(text) from failure


def first_batch(loader: CombinedLoader) -> Any:
    """The first training batch.

    Raises:
        NoBatch: there is none, or making it failed.
    """
    try:
        batch, _, _ = next(iter(loader))
    except StopIteration:
        raise NoBatch("the training data have no batch: less than one, with drop_last?") from None
    except Exception as failure:  # as above
        raise NoBatch(f"the first training batch cannot be made: {reason(failure)}") from failure
    return batch


def check_amount(loader: CombinedLoader, trainer: Trainer, setting: Setting) -> Iterator[Finding]:
    """Findings about data that do not fill a batch, or an optimizer step, on every rank."""
    for each in loader.flattened:
        samples, size = sized_len(getattr(each, "dataset", None)), getattr(each, "batch_size", None)
        if samples is not None and size is not None and samples < size * setting.ranks:
            where = f" on each of {setting.ranks} ranks" if setting.ranks > 1 else ""
            yield warning(
                f"the training data have {samples} samples, less than one batch of {size}{where}:"
                " give more data, or a smaller batch_size"
            )
    lengths = [length for each in loader.flattened if (length := sized_len(each)) is not None]
    if not lengths:
        return
    batches, limit = max(lengths) // setting.ranks, trainer.limit_train_batches
    used = int(batches * limit) if isinstance(limit, float) else min(batches, limit)
    if batches and not used:
        yield error(
            f"trainer.limit_train_batches={limit} of {batches} training batches is none at all"
        )
    elif used and used < trainer.accumulate_grad_batches:
        yield warning(
            f"an epoch has {used} batches, less than"
            f" accumulate_grad_batches={trainer.accumulate_grad_batches}: an optimizer step is made"
            " of fewer batches than asked for"
        )
