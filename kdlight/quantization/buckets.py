"""Buckets: the pieces of a flattened tensor that have a range of values each."""

from __future__ import annotations

import torch
from torch import Tensor

from kdlight.checks import check_integer

CONSTANT = 1e-10
"""Range of values below which a bucket counts as constant, as in the authors' code."""


def check_bits(bits: int) -> None:
    """Raise an error for a number of bits outside 1 to 16.

    Raises:
        TypeError: If ``bits`` is no integer.
        ValueError: If it is outside.

    Example:
        >>> check_bits(0)
        Traceback (most recent call last):
        ValueError: bits must be at least 1, got 0
    """
    check_integer("bits", bits, 1, 16)


def check_bucket(bucket: int | None) -> None:
    """Raise an error for a size of buckets that is not a positive integer; None is valid.

    Raises:
        TypeError: If ``bucket`` is neither None nor an integer.
        ValueError: If it is below 1.

    Example:
        >>> check_bucket(0)
        Traceback (most recent call last):
        ValueError: bucket must be at least 1, got 0
    """
    if bucket is not None:
        check_integer("bucket", bucket, 1)


def as_buckets(weight: Tensor, bucket: int | None) -> Tensor:
    """Return a weight as rows of ``bucket`` entries in float32 or wider, (...) -> (n, bucket).

    The last row is padded with the last entry. A weight of fewer entries is one row, as is every
    weight where ``bucket`` is None. A bucket may go across rows of the weight.

    Raises:
        TypeError: If the weight is not floating point.

    Example:
        >>> as_buckets(torch.tensor([1.0, 2.0, 3.0]), 2)
        tensor([[1., 2.],
                [3., 3.]])
    """
    if not weight.is_floating_point():
        raise TypeError(f"weight must be floating point, got {weight.dtype}")
    entries = weight.reshape(-1).to(torch.promote_types(weight.dtype, torch.float32))
    if bucket is None or entries.numel() < bucket:
        return entries[None]
    missing = -entries.numel() % bucket
    if missing:
        entries = torch.cat([entries, entries[-1:].expand(missing)])
    return entries.view(-1, bucket)


def from_buckets(rows: Tensor, weight: Tensor) -> Tensor:
    """Return the entries of rows in the shape and dtype of ``weight``, without the padding.

    Example:
        >>> weight = torch.tensor([1.0, 2.0, 3.0])
        >>> from_buckets(as_buckets(weight, 2), weight)
        tensor([1., 2., 3.])
    """
    return rows.reshape(-1)[: weight.numel()].view(weight.shape).to(weight.dtype)


def bucket_ranges(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least entry of each row and the range of its entries, (n, b) -> (n, 1), (n, 1).

    The range of a constant row is 1.

    Example:
        >>> low, width = bucket_ranges(torch.tensor([[1.0, 3.0], [2.0, 2.0]]))
        >>> low.flatten(), width.flatten()
        (tensor([1., 2.]), tensor([2., 1.]))
    """
    low = rows.amin(1, keepdim=True)
    width = rows.amax(1, keepdim=True) - low
    return low, width.masked_fill(width < CONSTANT, 1.0)


def check_entries(rows: Tensor) -> None:
    """Raise a ValueError where a row has an entry that is NaN or infinite.

    It waits for the device that the rows are on.

    Example:
        >>> check_entries(torch.tensor([[0.0, torch.nan]]))
        Traceback (most recent call last):
        ValueError: weight must be finite, but 1 of its 1 buckets has NaN or infinite entries; ...
    """
    if rows.numel() == 0:
        return
    low, width = bucket_ranges(rows)
    wrong = ~(low + width).isfinite()
    if bool(wrong.any()):
        raise ValueError(
            f"weight must be finite, but {int(wrong.sum())} of its {len(rows)} buckets has NaN or"
            " infinite entries; look for the step at which the training diverged"
        )
