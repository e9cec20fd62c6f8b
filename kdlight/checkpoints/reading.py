"""Read checkpoints of any kind: a single file, or a folder of shards."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import fsspec
import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata

from kdlight.checkpoints.checksums import verify_checksums
from kdlight.checkpoints.fitting import Shapes, shapes
from kdlight.checkpoints.shards import (
    METADATA,
    PlainLoadPlanner,
    PlainShardReader,
    check_plain,
)

META = "meta.pt"  # the file in a folder of shards where Lightning saves all but the tensors


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint with its weights as full tensors on the CPU, and verify its checksums.

    Args:
        path: a file, or a folder that FSDP2 or FSDP wrote.

    Raises:
        ValueError: If there is no checkpoint, or it is incomplete, damaged or no plain data.

    Example:
        >>> from tempfile import NamedTemporaryFile
        >>> with NamedTemporaryFile(suffix=".ckpt") as file:
        ...     torch.save({"state_dict": {"weight": torch.ones(2, 3)}, "epoch": 1}, file.name)
        ...     read_checkpoint(file.name)["epoch"]
        1
    """
    path = check_complete(path)
    verify_checksums(path)
    if path.is_file():
        return read_metadata(path)
    check_plain(path)
    # weights only: optimizer states would take twice the memory, and no caller needs them
    from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

    tensors: dict[str, Any] = {}
    reader, planner = PlainShardReader(path), PlainLoadPlanner(keys={"state_dict"})
    try:
        _load_state_dict(tensors, storage_reader=reader, planner=planner, no_dist=True)
    except (Exception, CheckpointException) as error:  # damaged bytes may raise anything
        raise ValueError(_unreadable(path, error)) from error
    if "state_dict" not in tensors:
        raise ValueError(f"checkpoint {str(path)!r} holds no weights")
    return {**read_metadata(path), **tensors}


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint without loading tensors: a file is memory-mapped, shards are left out.

    Example:
        >>> from tempfile import NamedTemporaryFile
        >>> with NamedTemporaryFile(suffix=".ckpt") as file:
        ...     torch.save({"state_dict": {"weight": torch.ones(2, 3)}, "epoch": 1}, file.name)
        ...     sorted(read_metadata(file.name))
        ['epoch', 'state_dict']
    """
    path = check_complete(path)
    file = path / META if path.is_dir() else path
    try:
        content = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # as above
        raise ValueError(_unreadable(path, error)) from error
    expected = "state_dict" if path.is_file() else None
    if not isinstance(content, dict) or (expected and expected not in content):
        held = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{str(path)!r} is no checkpoint of Lightning: it holds {held}")
    return content


def read_remote(url: str) -> dict[str, Any]:
    """Read a checkpoint from a URL, as a whole and as plain data.

    Raises:
        ValueError: It cannot be read.

    Example:
        >>> read_remote("memory://nowhere.ckpt")
        Traceback (most recent call last):
        ValueError: checkpoint 'memory://nowhere.ckpt' cannot be loaded with weights_only=True: ...
    """
    try:
        with fsspec.open(url, "rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)  # type: ignore[arg-type]
    except Exception as error:  # as above
        raise ValueError(_unreadable(url, error)) from error


def weight_shapes(path: str | Path) -> Shapes:
    """Return names and shapes of the weights in a checkpoint.

    Example:
        >>> from tempfile import NamedTemporaryFile
        >>> with NamedTemporaryFile(suffix=".ckpt") as file:
        ...     torch.save({"state_dict": {"weight": torch.ones(2, 3)}, "epoch": 1}, file.name)
        ...     weight_shapes(file.name)
        {'weight': (2, 3)}
    """
    path = check_complete(path)
    if path.is_file():
        return shapes(read_metadata(path)["state_dict"])
    metadata = PlainShardReader(path).read_metadata()
    planner: dict[str, tuple[Any, ...]] = metadata.planner_data
    # a state that is a dict itself has one entry per item, with a path of several names
    paths = {key: names for key, names in planner.items() if len(names) > 1}
    return {
        str(names[1]): tuple(getattr(metadata.state_dict_metadata[key], "size", ()))
        for key, names in paths.items()
        if names[0] == "state_dict"
    }


def is_readable(path: str | Path) -> bool:
    """Return whether a path is a file or a folder of shards; DeepSpeed's folders are neither.

    Example:
        >>> is_readable("nowhere")
        False
    """
    path = Path(path)
    return path.is_file() or (path / META).exists() or (path / METADATA).exists()


def check_complete(path: str | Path) -> Path:
    """Return the path of a checkpoint, after a check that all its bytes are present.

    Raises:
        ValueError: If there is no checkpoint, or writing it was interrupted.

    Example:
        >>> check_complete("nowhere.ckpt")
        Traceback (most recent call last):
        ValueError: checkpoint 'nowhere.ckpt' does not exist
    """
    path = Path(path)
    if path.is_file():
        if not _is_archive(path):  # the directory of a zip file is at its end
            raise ValueError(_incomplete(path, "its end is missing"))
        return path
    if not path.is_dir():
        raise ValueError(f"checkpoint {str(path)!r} does not exist")
    if not is_readable(path):
        raise ValueError(
            f"{str(path)!r} is not a checkpoint, neither a file nor a folder with {META!r}"
        )
    missing = [name for name in (META, METADATA) if not (path / name).exists()]
    if missing:
        raise ValueError(_incomplete(path, f"{missing[0]!r} is missing"))
    if not _is_archive(path / META):
        raise ValueError(_incomplete(path, f"the end of {META!r} is missing"))
    _check_shards(path, PlainShardReader(path).read_metadata())
    return path


def _is_archive(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # a damaged end
        return False


def _check_shards(path: Path, metadata: Metadata) -> None:
    for info in metadata.storage_data.values():
        shard = path / info.relative_path
        if not shard.exists() or shard.stat().st_size < info.offset + info.length:
            raise ValueError(_incomplete(path, f"the end of {info.relative_path!r} is missing"))


def _incomplete(path: Path, fault: str) -> str:
    return (
        f"checkpoint {str(path)!r} is incomplete: {fault}. Writing it was probably interrupted; use"
        " an older checkpoint"
    )


def _unreadable(path: str | Path, error: BaseException) -> str:
    first = next(iter(str(error).strip().splitlines()), "")
    return (
        f"checkpoint {str(path)!r} cannot be loaded with weights_only=True:"
        f" {type(error).__name__}: {first}"
    )
