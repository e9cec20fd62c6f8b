"""Shards: safetensors files, written atomically, with the checksum of their bytes in the name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from kdlight.cache.records import Record
from kdlight.data.written_files import write_files

PATTERN = "shard-*.safetensors"
UNFINISHED = "*.unfinished"


def write_shard(
    folder: Path, keys: Sequence[bytes], records: Sequence[Record], *, owner: str
) -> Path:
    """Write a shard atomically; its name contains the checksum of its bytes.

    Args:
        folder: the folder of the cache.
        keys: keys of the sequences.
        records: the packed sequences.
        owner: hash of the cache that the shard belongs to, see
            `kdlight.cache.manifest.Manifest.owner`.
    """
    sizes = [[r.length, r.entries, len(r.ids), len(r.values), len(r.scales)] for r in records]
    tensors = {
        "keys": np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), -1),
        "sizes": np.array(sizes, dtype=np.int64),
        "ids": np.concatenate([r.ids for r in records]),
        "values": np.concatenate([r.values for r in records]),
        "scales": np.concatenate([r.scales for r in records]),
    }
    content = save(tensors, metadata={"owner": owner})
    path = folder / f"shard-{checksum(content)}.safetensors"
    write_atomically(path, content)
    return path


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader gets either all of it or the previous file.

    Raises:
        OSError: If the disk is full, or the file cannot be written for another reason.
    """
    try:
        write_files({path: content})
    except OSError as error:
        reason = getattr(error.__cause__, "strerror", None)
        raise OSError(
            error.errno,
            f"cannot write {len(content)} bytes ({reason}); what was written before is kept: make"
            " room, then run the same command again, which continues",
            str(path),
        ) from error


def checksum(content: bytes) -> str:
    """Return the checksum of the bytes of a shard."""
    return blake2b(content, digest_size=16).hexdigest()


def is_intact(path: Path) -> bool:
    """Return whether the checksum of a shard's bytes is the one in its name."""
    return path.stem.removeprefix("shard-") == checksum(path.read_bytes())


class Shard:
    """A memory-mapped shard on disk, of which only the requested sequences are read.

    Args:
        path: the file.
        owner: hash of the cache, see `kdlight.cache.manifest.Manifest.owner`.

    Raises:
        ValueError: If the shard belongs to another cache, or is damaged.
    """

    def __init__(self, path: Path, *, owner: str) -> None:
        self.path = path
        with self._readable():
            self._check_owner(owner)

    def _check_owner(self, owner: str) -> None:
        written_owner = (self._file.metadata() or {}).get("owner")
        if written_owner != owner:
            raise ValueError(
                f"{self.path} belongs to cache {written_owner}, but is in the folder of cache"
                f" {owner}; remove it"
            )

    @cached_property
    def _file(self) -> Any:
        return safe_open(str(self.path), "np")

    @cached_property
    def _streams(self) -> dict[str, Any]:
        return {name: self._file.get_slice(name) for name in ("ids", "values", "scales")}

    @cached_property
    def keys(self) -> NDArray[np.uint8]:
        """Keys of the sequences, ``(n, 16)``."""
        with self._readable():
            return self._file.get_tensor("keys")

    @cached_property
    def _sizes(self) -> NDArray[np.int64]:
        return self._file.get_tensor("sizes")

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum(self._sizes[:, 2:], axis=0)

    @property
    def positions(self) -> int:
        """Number of stored positions."""
        return int(self._sizes[:, 4].sum())

    def record(self, row: int) -> Record:
        """Return the packed sequence in a row.

        Raises:
            ValueError: If the shard is damaged.
        """
        with self._readable():
            return self._record(row)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Name the file in every error."""
        try:
            yield
        except (SafetensorError, OSError, IndexError, KeyError, TypeError) as error:
            raise ValueError(
                f"the shard {str(self.path)!r} is damaged: {error}; write the cache again"
            ) from error

    def _record(self, row: int) -> Record:
        length, entries, *sizes = (int(size) for size in self._sizes[row])
        ends = [int(end) for end in self._ends[row]]
        if not entries:  # an empty tensor has no slices
            empty = np.zeros(0, dtype=np.uint8)
            return Record(length, 0, empty, empty, np.zeros((0, 1), dtype=np.float32))
        ids, values, scales = (
            stream[end - size : end]
            for stream, end, size in zip(self._streams.values(), ends, sizes, strict=True)
        )
        return Record(length, entries, ids, values, scales)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}  # another process maps the file itself
