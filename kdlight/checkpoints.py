"""Checkpoints of every kind: one file, a folder of shards, or a folder put together to a file."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import FileSystemReader

META = "meta.pt"  # Lightning's name for what is not a tensor, in a folder of shards
Shapes = dict[str, tuple[int, ...]]
FORMAT = 1  # of what kdlight itself adds to a checkpoint, under "kdlight"


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The whole checkpoint, with full tensors on the CPU.

    Args:
        path: a file, or a folder that FSDP2 or FSDP wrote.

    Raises:
        ValueError: there is nothing, nothing whole, or something else.

    Example:
        >>> from tempfile import NamedTemporaryFile
        >>> with NamedTemporaryFile(suffix=".ckpt") as file:
        ...     torch.save({"state_dict": {"weight": torch.ones(2, 3)}, "epoch": 1}, file.name)
        ...     read_checkpoint(file.name)["epoch"]
        1
    """
    path = check_whole(path)
    if path.is_file():
        return read_facts(path)
    # weights alone: optimizer states would take twice the memory, and nobody asks for them
    from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
    from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

    tensors: dict[str, Any] = {}
    planner = _EmptyStateDictLoadPlanner(keys={"state_dict"})
    _load_state_dict(tensors, storage_reader=FileSystemReader(path), planner=planner, no_dist=True)
    return {**read_facts(path), **tensors}


def read_facts(path: str | Path) -> dict[str, Any]:
    """The checkpoint without its tensors: those of a file are only mapped, of a folder left out.

    Example:
        >>> from tempfile import NamedTemporaryFile
        >>> with NamedTemporaryFile(suffix=".ckpt") as file:
        ...     torch.save({"state_dict": {"weight": torch.ones(2, 3)}, "epoch": 1}, file.name)
        ...     sorted(read_facts(file.name))
        ['epoch', 'state_dict']
    """
    path = check_whole(path)
    file = path / META if path.is_dir() else path
    try:
        return torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError) as error:
        raise ValueError(
            f"checkpoint {str(path)!r} cannot be read as plain data: {str(error).splitlines()[0]}"
        ) from error


def weight_shapes(path: str | Path) -> Shapes:
    """Names and shapes of the weights in a checkpoint.

    Example:
        >>> from tempfile import NamedTemporaryFile
        >>> with NamedTemporaryFile(suffix=".ckpt") as file:
        ...     torch.save({"state_dict": {"weight": torch.ones(2, 3)}, "epoch": 1}, file.name)
        ...     weight_shapes(file.name)
        {'weight': (2, 3)}
    """
    path = check_whole(path)
    if path.is_file():
        return shapes(read_facts(path)["state_dict"])
    metadata = FileSystemReader(path).read_metadata()
    # a state that is itself a dict is spread over several entries
    places = {key: place for key, place in metadata.planner_data.items() if len(place) > 1}
    return {
        str(place[1]): tuple(getattr(metadata.state_dict_metadata[key], "size", ()))
        for key, place in places.items()
        if place[0] == "state_dict"
    }


def shapes(weights: Mapping[str, Any]) -> Shapes:
    """Names and shapes of a state dict; what is not a tensor in it has the shape of a number.

    Example:
        >>> shapes({"weight": torch.ones(2, 3), "t": 0.4})
        {'weight': (2, 3), 't': ()}
    """
    return {name: tuple(getattr(value, "shape", ())) for name, value in weights.items()}


def is_ours(path: str | Path) -> bool:
    """Whether a path leads to a file or to a folder of shards; DeepSpeed's folders are its own.

    Example:
        >>> is_ours("nowhere")
        False
    """
    path = Path(path)
    return path.is_file() or (path / META).exists() or (path / ".metadata").exists()


def check_whole(path: str | Path) -> Path:
    """The path of a checkpoint whose files are there to the last byte.

    Raises:
        ValueError: there is no checkpoint, or it was cut short while it was written.

    Example:
        >>> check_whole("nowhere.ckpt")
        Traceback (most recent call last):
        ValueError: checkpoint 'nowhere.ckpt' does not exist
    """
    path = Path(path)
    if path.is_file():
        if not zipfile.is_zipfile(path):  # whose table of contents comes last
            raise ValueError(_cut_short(path, "its end is missing"))
        return path
    if not path.is_dir():
        raise ValueError(f"checkpoint {str(path)!r} does not exist")
    if not is_ours(path):
        raise ValueError(
            f"{str(path)!r} is no checkpoint: neither a file nor a folder of shards with {META!r}"
        )
    for name in (META, ".metadata"):
        if not (path / name).exists():
            raise ValueError(_cut_short(path, f"{name!r} is missing"))
    if not zipfile.is_zipfile(path / META):
        raise ValueError(_cut_short(path, f"the end of {META!r} is missing"))
    for info in FileSystemReader(path).read_metadata().storage_data.values():
        shard = path / info.relative_path
        if not shard.exists() or shard.stat().st_size < info.offset + info.length:
            raise ValueError(_cut_short(path, f"the end of {info.relative_path!r} is missing"))
    return path


def check_format(checkpoint: Mapping[str, Any]) -> None:
    """Raise a ValueError for a checkpoint from a later kdlight, which may mean other things.

    Example:
        >>> check_format({"kdlight": {"format": 99, "version": "9.0"}})
        Traceback (most recent call last):
        ValueError: the checkpoint was written by kdlight 9.0 in format 99, ...
    """
    made = checkpoint.get("kdlight", {})
    if made.get("format", FORMAT) > FORMAT:
        raise ValueError(
            f"the checkpoint was written by kdlight {made.get('version')} in format"
            f" {made['format']}, and this kdlight reads formats up to {FORMAT}; upgrade kdlight"
        )


def check_weights(saved: Shapes, here: Shapes) -> None:
    """Raise a ValueError that names the weights of a checkpoint that do not fit.

    Args:
        saved: names and shapes in the checkpoint.
        here: names and shapes of the module that is to take them.

    Example:
        >>> check_weights({"head": (12, 6)}, {"head": (11, 6)})
        Traceback (most recent call last):
        ValueError: the checkpoint is of other parts than this run (another student, ...
          other shapes: head (12, 6) in the checkpoint, (11, 6) here
    """
    differing = [
        f"{name} {saved[name]} in the checkpoint, {here[name]} here"
        for name in saved
        if name in here and saved[name] != here[name]
    ]
    found = {
        "only in the checkpoint": [name for name in saved if name not in here],
        "only in this run": [name for name in here if name not in saved],
        "other shapes": differing,
    }
    lines = [f"  {what}: {_some(names)}" for what, names in found.items() if names]
    if lines:
        kinds = "another student, objective or vocabulary"
        lines.insert(0, f"the checkpoint is of other parts than this run ({kinds}):")
        raise ValueError("\n".join(lines))


def _some(names: list[str], most: int = 4) -> str:
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _cut_short(path: Path, what: str) -> str:
    return (
        f"checkpoint {str(path)!r} is not whole: {what}. It was probably cut short while it was"
        " written; use an older one"
    )
