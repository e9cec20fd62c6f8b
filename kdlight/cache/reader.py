"""Reads the sequences of a complete cache by their content."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from pathlib import Path

import numpy as np

from kdlight.cache.digests import KEY_BYTES
from kdlight.cache.manifest import read_manifest
from kdlight.cache.records import Sequence, decode
from kdlight.cache.settings import Settings
from kdlight.cache.shards import Shard, is_intact


class CacheReader:
    """Finds and reads sequences of a cache by their keys.

    Args:
        folder: the folder of the cache.
        verify: compare the checksum of every shard, about a second per gigabyte; the sizes are
            always compared.

    Raises:
        ValueError: If there is no cache, it is not complete, or a shard is missing or damaged.

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
                f"the cache in {str(folder)!r} is not complete: run the command that started it"
                " again to resume it"
            )
        self._bits = Settings(**self.manifest.settings).bits
        for name, size in self.manifest.shards.items():
            _check_shard(folder / name, size, verify=verify)
        owner = self.manifest.owner
        self.shards = [Shard(folder / name, owner=owner) for name in self.manifest.shards]
        keys = [shard.keys for shard in self.shards] or [np.zeros((0, KEY_BYTES), np.uint8)]
        self._shard = np.repeat(np.arange(len(keys)), [len(each) for each in keys])
        self._row = np.concatenate([np.arange(len(each)) for each in keys])
        self._keys = np.concatenate(keys)
        starts = self._keys[:, :8].copy().view(np.uint64).reshape(-1)
        self._order = np.argsort(starts, kind="stable")
        self._starts = starts[self._order]

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, keys: SequenceOf[bytes]) -> list[int]:
        """Return the number of the sequence of each key, -1 if it is not in the cache."""
        wanted = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), KEY_BYTES)
        starts = wanted[:, :8].copy().view(np.uint64).reshape(-1)
        indices = np.searchsorted(self._starts, starts)
        numbers = []
        for key, index in zip(wanted, indices, strict=True):
            number = int(self._order[index]) if index < len(self) else -1
            numbers.append(number if number >= 0 and (self._keys[number] == key).all() else -1)
        return numbers

    def read(self, number: int) -> Sequence:
        """Return the sequence with a number from `find`.

        Raises:
            ValueError: If its shard is damaged, which is found here without ``verify``.
        """
        shard = self.shards[self._shard[number]]
        record = shard.record(int(self._row[number]))
        try:
            return decode(record, vocabulary=self.manifest.vocabulary, bits=self._bits)
        except (ValueError, IndexError) as error:
            raise ValueError(
                f"a sequence in the shard {str(shard.path)!r} is damaged: {error}; write the cache"
                " again"
            ) from error


def _check_shard(path: Path, size: int, *, verify: bool) -> None:
    if not path.is_file():
        raise ValueError(
            f"the cache in {str(path.parent)!r} has lost its shard {path.name}; write the cache"
            " again"
        )
    if path.stat().st_size != size or (verify and not is_intact(path)):
        raise ValueError(
            f"the shard {path} is damaged: {path.stat().st_size} bytes of {size}, or a wrong"
            ' checksum; remove it, set "complete" in manifest.json to false, and resume writing'
        )
