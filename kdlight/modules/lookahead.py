"""The next training batch, known one step earlier, for a teacher that answers meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from lightning.pytorch import Trainer

from kdlight.data.loaders import ResumableLoader
from kdlight.teachers import Teacher


class Lookahead(Iterator):
    """Batches of which the next one can be looked at.

    Args:
        batches: an iterator.
        loaders: the loaders behind it; those that save their position leave out a batch that was
            only looked at.

    Example:
        >>> batches = Lookahead(iter([1, 2]), [])
        >>> batches.peek(), next(batches), next(batches), batches.peek()
        (1, 1, 2, None)
    """

    def __init__(self, batches: Iterator, loaders: Iterable[Any]) -> None:
        self._batches = batches
        self._loaders = [each for each in loaders if isinstance(each, ResumableLoader)]
        self._next: list[Any] = []

    def __next__(self) -> Any:
        if not self._next:
            return next(self._batches)
        self._set_ahead(0)
        return self._next.pop()

    def peek(self) -> Any:
        """Return the next item without taking it; None if there is none."""
        if not self._next:
            with suppress(StopIteration):
                self._next.append(next(self._batches))
                self._set_ahead(1)
        return self._next[0] if self._next else None

    def _set_ahead(self, count: int) -> None:
        for loader in self._loaders:
            loader.looked_at = count


def announce_next_batch(trainer: Trainer, teacher: Teacher | None) -> None:
    """Tell a teacher on a server the batch after the current one.

    Not where a callback changes batches, and not where a loader saves its position in a way of its
    own, which would count a batch that was only looked at.
    """
    if teacher is None or not teacher.looks_ahead:
        return
    if any(getattr(each, "changes_batches", False) for each in trainer.callbacks):  # type: ignore[attr-defined]
        return
    fetcher, combined = trainer.fit_loop._data_fetcher, trainer.fit_loop._combined_loader
    batches = None if fetcher is None else fetcher.iterator
    if fetcher is None or batches is None or combined is None:
        return
    if not isinstance(batches, Lookahead):
        loaders = combined.flattened
        if not all(_can_look_ahead(loader) for loader in loaders):
            return
        batches = fetcher.iterator = Lookahead(batches, loaders)
    limit = trainer.num_training_batches
    if fetcher.fetched >= limit:  # limit_train_batches: no further batch is trained on
        return
    item = batches.peek()
    batch = item[0] if isinstance(item, tuple) else None
    if isinstance(batch, Mapping) and "input_ids" in batch:
        with suppress(ValueError, TypeError):  # which is raised when the batch is trained on
            teacher.expect(batch)


def _can_look_ahead(loader: Any) -> bool:
    return isinstance(loader, ResumableLoader) or not hasattr(loader, "state_dict")
