"""Folders of shards, read without running what a file names.

torch reads the file ``.metadata`` of such a folder, and values in its shards that are not tensors,
by unpickling, which may call any function that is named there. Here only plain data is accepted.
What was accepted here contains no name of a function, so that torch may read it as well.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from math import prod
from pathlib import Path, PurePath
from typing import Any

import torch
from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    Metadata,
    StorageMeta,
    TensorStorageMetadata,
)

METADATA = ".metadata"  # the file in a folder of shards that says where each tensor is

PLAIN = {
    "torch.distributed.checkpoint.metadata": {
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo", "_StoragePrefix"},
    "torch.serialization": {"_get_layout"},
    "torch": {"Size"},
    "collections": {"OrderedDict"},
    "pathlib": {"PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path"},
    "pathlib._local": {"PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path"},
}
"""The classes and functions that ``.metadata`` may name, by their modules, besides dtypes."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if name not in PLAIN.get(module, ()):
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not plain data")
        # a folder from another system has paths of that system; they are not used
        return PurePath if module.startswith("pathlib") else super().find_class(module, name)


class PlainShardReader(FileSystemReader):
    """torch's reader of a folder of shards, for folders that contain plain data only.

    Args:
        path: the folder.

    Raises:
        ValueError: When the metadata are read: they are damaged, or name anything else.
    """

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Read where each tensor is."""
        path = Path(self.path)
        try:
            metadata = _PlainUnpickler(io.BytesIO((path / METADATA).read_bytes())).load()
            _check_structure(metadata)
        except Exception as error:  # damaged bytes may raise anything
            raise ValueError(
                f"checkpoint {str(path)!r} is not read: {METADATA!r} is damaged or no plain data"
                f" ({type(error).__name__}: {error})"
            ) from error
        if metadata.storage_meta is None:
            metadata.storage_meta = StorageMeta()
        metadata.storage_meta.load_id = getattr(self, "load_id", None)
        return metadata

    def read_part(self, info: Any) -> bytes:
        """Return the bytes of one entry of the storage data."""
        with (Path(self.path) / info.relative_path).open("rb") as file:
            file.seek(info.offset)
            return file.read(info.length)


class PlainLoadPlanner(_EmptyStateDictLoadPlanner):
    """torch's planner, which loads values other than tensors only if they are plain data."""

    def load_bytes(self, read_item: Any, value: io.BytesIO) -> None:
        """Load one value."""
        torch.load(value, weights_only=True)
        value.seek(0)
        super().load_bytes(read_item, value)


def check_plain(path: str | Path) -> None:
    """Raise a ValueError if reading a folder of shards would run what a file in it names.

    Args:
        path: the folder.

    Raises:
        ValueError: ``.metadata`` or a value in a shard is not plain data, or damaged.

    Example:
        >>> check_plain("nowhere")
        Traceback (most recent call last):
        ValueError: checkpoint 'nowhere' is not read: '.metadata' is damaged or no plain data ...
    """
    reader = PlainShardReader(path)
    for name, part in _values(reader):
        try:
            torch.load(io.BytesIO(part), weights_only=True)
        except Exception as error:  # as above
            raise ValueError(
                f"checkpoint {str(path)!r} is not read: its value {name!r} is damaged or no plain"
                f" data ({str(error).splitlines()[0]})"
            ) from error


def _values(reader: PlainShardReader) -> Iterator[tuple[str, bytes]]:
    metadata = reader.read_metadata()
    for index, info in metadata.storage_data.items():
        if isinstance(metadata.state_dict_metadata[index.fqn], BytesStorageMetadata):
            yield index.fqn, reader.read_part(info)


def _check_structure(metadata: Any) -> None:
    """Check that every tensor is covered by its parts, and every part is inside the folder."""
    if not isinstance(metadata, Metadata):
        raise TypeError(f"it holds {type(metadata).__name__}")
    for name, entry in metadata.state_dict_metadata.items():
        if not isinstance(entry, TensorStorageMetadata):
            continue
        inside = all(
            offset >= 0 and offset + size <= whole
            for chunk in entry.chunks
            for offset, size, whole in zip(chunk.offsets, chunk.sizes, entry.size, strict=True)
        )
        places = {tuple(chunk.offsets) for chunk in entry.chunks if prod(chunk.sizes)}
        parts = [chunk for chunk in entry.chunks if prod(chunk.sizes)]
        covered = sum(prod(chunk.sizes) for chunk in parts) == prod(entry.size)
        if not inside or not covered or len(places) < len(parts):
            raise ValueError(f"the parts of {name!r} are not the whole of it")
    for index, info in metadata.storage_data.items():
        if index.fqn not in metadata.state_dict_metadata:
            raise ValueError(f"{index.fqn!r} has no description")
        if not (isinstance(info.offset, int) and isinstance(info.length, int)):
            raise TypeError(f"the place of {index.fqn!r} is no number")
        shard = PurePath(info.relative_path)
        if shard.is_absolute() or ".." in shard.parts:
            raise ValueError(f"the shard {info.relative_path!r} is outside of the folder")
