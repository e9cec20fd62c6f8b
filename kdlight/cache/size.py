"""How large a cache will be, said before it is written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info

from kdlight.cache.keys import counted, rows_of
from kdlight.cache.manifest import Manifest
from kdlight.cache.records import bytes_per_position
from kdlight.cache.settings import Settings


def say_size(data: LightningDataModule, manifest: Manifest, folder: Path) -> None:
    """Print the size to come, at most.

    Raises:
        ValueError: the disk has no room for it.
    """
    positions = sum(_positions(make) for make in (data.train_dataloader, data.val_dataloader))
    settings = Settings(**manifest.settings)
    k = min(settings.k or manifest.vocabulary, manifest.vocabulary)
    each = bytes_per_position(k, vocabulary=manifest.vocabulary, bits=settings.bits)
    size, free = positions * each, shutil.disk_usage(folder).free
    rank_zero_info(
        f"Cache of up to {positions} positions with {'at most ' if settings.top_p else ''}{k}"
        f" tokens each: {each} bytes a position, {megabytes(size)} ({megabytes(free)} free)"
    )
    if size > free:
        raise ValueError(
            f"the cache takes about {megabytes(size)}, and {folder} has {megabytes(free)} free;"
            " choose another output, a smaller k, a top_p, or fewer bits"
        )


def _positions(make: Callable[[], Any]) -> int:
    """About how many positions a loader has: those of its first batch times its batches."""
    loader = make()
    if is_empty(loader) or not hasattr(loader, "__len__"):
        return 0
    batch = next(iter(loader))
    mask = counted(batch)
    return len(loader) * (len(rows_of(batch)) if mask is None else int(mask.sum()))


def is_empty(loader: Any) -> bool:
    """Whether a data module says by this loader that it has no such data."""
    return loader is None or (hasattr(loader, "__len__") and not len(loader))


def megabytes(size: float) -> str:
    """A number of bytes, for people."""
    return f"{size / 1e6:,.1f} MB"
