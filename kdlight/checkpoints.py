"""Reads and checks checkpoints: a single file, or a folder of shards."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import FileSystemReader

META = "meta.pt"  # the file in a folder of shards where Lightning saves all but the tensors
Shapes = dict[str, tuple[int, ...]]
FORMAT = 1  # version of the data that kdlight adds to a checkpoint, under "kdlight"


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint with its weights as full tensors on the CPU.

    Args:
        path: a file, or a folder that FSDP2 or FSDP wrote.

    Raises:
        ValueError: If there is no checkpoint, or it is incomplete or unreadable.

    Example:
        >>> from tempfile import NamedTemporaryFile
        >>> with NamedTemporaryFile(suffix=".ckpt") as file:
        ...     torch.save({"state_dict": {"weight": torch.ones(2, 3)}, "epoch": 1}, file.name)
        ...     read_checkpoint(file.name)["epoch"]
        1
    """
    path = check_complete(path)
    if path.is_file():
        return read_metadata(path)
    # weights only: optimizer states would take twice the memory, and no caller needs them
    from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
    from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

    tensors: dict[str, Any] = {}
    planner = _EmptyStateDictLoadPlanner(keys={"state_dict"})
    _load_state_dict(tensors, storage_reader=FileSystemReader(path), planner=planner, no_dist=True)
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
        return torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError) as error:
        raise ValueError(
            f"checkpoint {str(path)!r} cannot be loaded with weights_only=True:"
            f" {str(error).splitlines()[0]}"
        ) from error


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
    metadata = FileSystemReader(path).read_metadata()
    # a state that is a dict itself has one entry per item, with a path of several names
    paths = {key: names for key, names in metadata.planner_data.items() if len(names) > 1}
    return {
        str(names[1]): tuple(getattr(metadata.state_dict_metadata[key], "size", ()))
        for key, names in paths.items()
        if names[0] == "state_dict"
    }


def shapes(weights: Mapping[str, Any]) -> Shapes:
    """Return names and shapes of a state dict; a value that is not a tensor has the shape ().

    Example:
        >>> shapes({"weight": torch.ones(2, 3), "t": 0.4})
        {'weight': (2, 3), 't': ()}
    """
    return {name: tuple(getattr(value, "shape", ())) for name, value in weights.items()}


def is_readable(path: str | Path) -> bool:
    """Return whether a path is a file or a folder of shards; DeepSpeed's folders are neither.

    Example:
        >>> is_readable("nowhere")
        False
    """
    path = Path(path)
    return path.is_file() or (path / META).exists() or (path / ".metadata").exists()


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
        if not zipfile.is_zipfile(path):  # the directory of a zip file is at its end
            raise ValueError(_incomplete(path, "its end is missing"))
        return path
    if not path.is_dir():
        raise ValueError(f"checkpoint {str(path)!r} does not exist")
    if not is_readable(path):
        raise ValueError(
            f"{str(path)!r} is not a checkpoint, neither a file nor a folder with {META!r}"
        )
    missing = [name for name in (META, ".metadata") if not (path / name).exists()]
    if missing:
        raise ValueError(_incomplete(path, f"{missing[0]!r} is missing"))
    if not zipfile.is_zipfile(path / META):
        raise ValueError(_incomplete(path, f"the end of {META!r} is missing"))
    for info in FileSystemReader(path).read_metadata().storage_data.values():
        shard = path / info.relative_path
        if not shard.exists() or shard.stat().st_size < info.offset + info.length:
            raise ValueError(_incomplete(path, f"the end of {info.relative_path!r} is missing"))
    return path


def check_format(checkpoint: Mapping[str, Any]) -> None:
    """Raise a ValueError for a checkpoint in a later format than `FORMAT`.

    Example:
        >>> check_format({"kdlight": {"format": 99, "version": "9.0"}})
        Traceback (most recent call last):
        ValueError: the checkpoint was written by kdlight 9.0 in format 99, ...
    """
    metadata = checkpoint.get("kdlight", {})
    if metadata.get("format", FORMAT) > FORMAT:
        raise ValueError(
            f"the checkpoint was written by kdlight {metadata.get('version')} in format"
            f" {metadata['format']}, but this kdlight reads formats up to {FORMAT}; upgrade kdlight"
        )


def check_weights(saved: Shapes, current: Shapes) -> None:
    """Raise a ValueError that names the weights of a checkpoint that do not fit a module.

    Args:
        saved: names and shapes in the checkpoint.
        current: names and shapes of the module.

    Example:
        >>> check_weights({"head": (12, 6)}, {"head": (11, 6)})
        Traceback (most recent call last):
        ValueError: the weights of the checkpoint do not fit this run (another student, ...
          other shapes: head (12, 6) in the checkpoint, (11, 6) in this run
    """
    differences = {
        "only in the checkpoint": [name for name in saved if name not in current],
        "only in this run": [name for name in current if name not in saved],
        "other shapes": [
            f"{name} {saved[name]} in the checkpoint, {current[name]} in this run"
            for name in saved
            if name in current and saved[name] != current[name]
        ],
    }
    lines = [f"  {kind}: {_first_few(names)}" for kind, names in differences.items() if names]
    if lines:
        cause = "another student, objective or vocabulary"
        lines.insert(0, f"the weights of the checkpoint do not fit this run ({cause}):")
        raise ValueError("\n".join(lines))


def _first_few(names: list[str], limit: int = 4) -> str:
    more = f", and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _incomplete(path: Path, fault: str) -> str:
    return (
        f"checkpoint {str(path)!r} is incomplete: {fault}. Writing it was probably interrupted; use"
        " an older checkpoint"
    )
