"""Shards: safetensors files that are whole, under a name that vouches for them, or absent."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from kdlight.cache.records import Record

PATTERN = "shard-*.safetensors"
UNFINISHED = "*.unfinished"


def write_shard(
    folder: Path, keys: Sequence[bytes], records: Sequence[Record], *, owner: str
) -> Path:
    """Write a shard, whole or not at all; its name holds the checksum of its bytes.

    Args:
        folder: where to.
        keys: of the sequences.
        records: the sequences.
        owner: what the shard belongs to, see `kdlight.cache.manifest.Manifest.owner`.
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
    beside = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    write_atomically(path, content, beside=beside)
    return path


def write_atomically(path: Path, content: bytes, *, beside: Path | None = None) -> None:
    """Write a file so that whoever looks sees all of it or what was there before."""
    beside = beside or path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name, too, survives a power cut
    finally:
        os.close(folder)


def checksum(content: bytes) -> str:
    """Of the bytes of a shard."""
    return blake2b(content, digest_size=16).hexdigest()


def is_intact(path: Path) -> bool:
    """Whether a shard's bytes are those that its name vouches for."""
    return path.stem.removeprefix("shard-") == checksum(path.read_bytes())


class Found(NamedTuple):
    """A record and its row."""

    row: int
    record: Record


class Shard:
    """A shard on disk, memory-mapped: a sequence is read where it lies, and nothing else.

    Raises:
        ValueError: it belongs to something else than ``owner``.
    """

    def __init__(self, path: Path, *, owner: str) -> None:
        self.path = path
        found = (self._file.metadata() or {}).get("owner")
        if found != owner:
            raise ValueError(f"{path} belongs to cache {found}, but lies in cache {owner}")

    @cached_property
    def _file(self) -> Any:
        return safe_open(str(self.path), "np")

    @cached_property
    def _streams(self) -> dict[str, Any]:
        return {name: self._file.get_slice(name) for name in ("ids", "values", "scales")}

    @cached_property
    def keys(self) -> NDArray[np.uint8]:
        """Keys of the sequences, ``(n, 16)``."""
        return self._file.get_tensor("keys")

    @cached_property
    def _sizes(self) -> NDArray[np.int64]:
        return self._file.get_tensor("sizes")

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum(self._sizes[:, 2:], axis=0)

    @property
    def positions(self) -> int:
        """How many positions are stored."""
        return int(self._sizes[:, 4].sum())

    def record(self, row: int) -> Record:
        """The sequence in a row."""
        length, entries, *sizes = (int(size) for size in self._sizes[row])
        ends = [int(end) for end in self._ends[row]]
        ids, values, scales = (
            stream[end - size : end]
            for stream, end, size in zip(self._streams.values(), ends, sizes, strict=True)
        )
        return Record(length, entries, ids, values, scales)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}  # another process maps it for itself
