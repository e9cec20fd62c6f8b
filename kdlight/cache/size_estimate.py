"""The size of a cache, estimated before it is written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info

from kdlight.cache.layout import Layout
from kdlight.cache.manifest import Manifest
from kdlight.cache.records import bytes_per_position
from kdlight.cache.row_keys import keyed_rows
from kdlight.cache.settings import Settings


def check_disk_space(data: LightningDataModule, manifest: Manifest, folder: Path) -> None:
    """Log the maximal size of a cache, and raise an error if it does not fit on the disk.

    Raises:
        ValueError: If the disk has not enough free space.
    """
    makers = (data.train_dataloader, data.val_dataloader)
    positions = sum(_positions(make, manifest.layout) for make in makers)
    settings = Settings(**manifest.settings)
    k = min(settings.k or manifest.vocabulary, manifest.vocabulary)
    per_position = bytes_per_position(k, vocabulary=manifest.vocabulary, bits=settings.bits)
    size, free = positions * per_position, shutil.disk_usage(folder).free
    rank_zero_info(
        f"Cache of up to {positions} positions with {'at most ' if settings.top_p else ''}{k}"
        f" tokens each: {per_position} bytes per position, {megabytes(size)} ({megabytes(free)}"
        " free)"
    )
    if size > free:
        raise ValueError(
            f"the cache needs about {megabytes(size)}, but {folder} has {megabytes(free)} free;"
            " choose another output, a smaller k, a top_p, or fewer bits"
        )


def _positions(make_loader: Callable[[], Any], layout: Layout) -> int:
    """Estimate the positions of a loader: the first batch times the number of batches."""
    loader = make_loader()
    if is_empty(loader) or not hasattr(loader, "__len__"):
        return 0
    batch = next(iter(loader))
    valid = layout.valid_positions(batch)
    if valid is None:
        return len(loader) * sum(row.stop - row.start for row in keyed_rows(batch, layout))
    return len(loader) * int(valid.sum())


def is_empty(loader: Any) -> bool:
    """Return whether a loader is None or has length 0, so that there are no such data."""
    return loader is None or (hasattr(loader, "__len__") and not len(loader))


def megabytes(size: float) -> str:
    """Format a number of bytes.

    Example:
        >>> megabytes(2_500_000)
        '2.5 MB'
    """
    return f"{size / 1e6:,.1f} MB"
