"""A complete cache, to be read by the content of sequences."""

from __future__ import annotations

from collections.abc import Sequence as Sized
from pathlib import Path

import numpy as np

from kdlight.cache.manifest import read_manifest
from kdlight.cache.records import Sequence, decode
from kdlight.cache.shards import Shard, is_intact


class CacheReader:
    """Sequences of a cache, found by their keys.

    Args:
        folder: where the manifest is.
        verify: compare the checksum of every shard, about a second a gigabyte; their sizes are
            compared in any case.

    Raises:
        ValueError: no cache, one that is not complete, or shards that are missing or damaged.

    Example:
        >>> CacheReader(Path("nowhere"))
        Traceback (most recent call last):
        ValueError: no cache in 'nowhere': it has no manifest.json. Write one with ...
    """

    def __init__(self, folder: Path, *, verify: bool = True) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        if not self.manifest.complete:
            raise ValueError(
                f"the cache in {str(folder)!r} is not complete: give the command that began it"
                " once more, and it goes on where it was interrupted"
            )
        for name, size in self.manifest.shards.items():
            _check(folder / name, size, verify=verify)
        owner = self.manifest.owner
        self.shards = [Shard(folder / name, owner=owner) for name in self.manifest.shards]
        keys = [shard.keys for shard in self.shards] or [np.zeros((0, 16), np.uint8)]
        self._shard = np.repeat(np.arange(len(keys)), [len(each) for each in keys])
        self._row = np.concatenate([np.arange(len(each)) for each in keys])
        self._keys = np.concatenate(keys)
        starts = self._keys[:, :8].copy().view(np.uint64).reshape(-1)
        self._order = np.argsort(starts, kind="stable")
        self._starts = starts[self._order]

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, keys: Sized[bytes]) -> list[int]:
        """The number of the sequence of each key, -1 where there is none."""
        wanted = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), -1)
        starts = wanted[:, :8].copy().view(np.uint64).reshape(-1)
        at = np.searchsorted(self._starts, starts)
        found = []
        for key, place in zip(wanted, at, strict=True):
            number = int(self._order[place]) if place < len(self) else -1
            found.append(number if number >= 0 and (self._keys[number] == key).all() else -1)
        return found

    def read(self, number: int) -> Sequence:
        """The sequence of a number that `find` found."""
        record = self.shards[self._shard[number]].record(int(self._row[number]))
        return decode(
            record, vocabulary=self.manifest.vocabulary, bits=self.manifest.settings["bits"]
        )


def _check(path: Path, size: int, *, verify: bool) -> None:
    if not path.is_file():
        raise ValueError(f"the cache in {str(path.parent)!r} lacks its shard {path.name}")
    if path.stat().st_size != size or (verify and not is_intact(path)):
        raise ValueError(
            f"the shard {path} is damaged: {path.stat().st_size} bytes of {size}, or other bytes"
            ' than were written; remove it and manifest.json\'s "complete", and write it again'
        )
