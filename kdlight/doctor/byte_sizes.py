"""Bytes of tensors and files, as numbers and as text."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor


def tensor_bytes(tensors: Iterable[Tensor], dtype: torch.dtype | None = None) -> int:
    """Return the bytes of tensors, each counted once.

    Args:
        tensors: the tensors; one that occurs twice is counted once.
        dtype: dtype that floating-point tensors will be converted to; None if they are kept.

    Example:
        >>> weight = torch.zeros(3, 4)
        >>> tensor_bytes([weight, weight]), tensor_bytes([weight], torch.bfloat16)
        (48, 24)
    """
    count = 0
    for tensor in {id(each): each for each in tensors}.values():
        converted = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
        count += tensor.numel() * converted.itemsize
    return count


def folder_bytes(folder: str | Path) -> int:
    """Return the bytes of all files in ``folder``."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def format_bytes(count: int) -> str:
    """Return a number of bytes with a unit.

    Example:
        >>> format_bytes(123), format_bytes(5 * 2**20)
        ('123 B', '5.0 MiB')
    """
    if count < 1024:
        return f"{count} B"
    amount = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1024:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"
