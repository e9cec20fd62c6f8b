"""Batches of a loader again and again, from any place on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng

from kdlight.callbacks.bilevel.seeding import seed


class RepeatedLoader:
    """Serves the batches of a loader without an end.

    Which batch comes depends on the number of batches before it alone: random numbers that the
    loader draws are those of a seed of its own, and the generators of the run stay as they are. So
    the number is all that a checkpoint needs.

    Args:
        loader: a loader of a data module.
        drawn: number of batches that were served before.

    Raises:
        ValueError: The loader has no batch.

    Attributes:
        drawn: number of batches that were served.

    Example:
        >>> batches = RepeatedLoader([1, 2, 3], drawn=4)
        >>> [next(batches) for _ in range(3)], batches.drawn
        ([2, 3, 1], 7)
    """

    def __init__(self, loader: Any, drawn: int = 0) -> None:
        self.loader, self.drawn = loader, 0
        self._batches: Iterator[Any] = iter(())
        size = _size(loader)
        if size:  # whole passes need not be served again
            self.drawn = drawn - drawn % size
        self._passes = self.drawn // size if size else 0
        for _ in islice(self, drawn - self.drawn):
            pass

    def __iter__(self) -> Iterator[Any]:
        """Return the object itself."""
        return self

    def __next__(self) -> Any:
        """Return the next batch."""
        with isolate_rng():
            seed(self.drawn, torch.device("cpu"))
            batch = next(self._batches, self)  # itself, as None may be a batch
            if batch is self:
                set_epoch = getattr(getattr(self.loader, "sampler", None), "set_epoch", None)
                if set_epoch is not None:  # outside of its loops the Trainer does not
                    set_epoch(self._passes)
                self._passes += 1
                self._batches = iter(self.loader)
                batch = next(self._batches, self)
        if batch is self:
            raise ValueError("the data loader of BilevelUpdate has no batch")
        self.drawn += 1
        return batch


def _size(loader: Any) -> int | None:
    try:
        return len(loader)
    except TypeError:  # an iterable dataset without a length
        return None
