"""Integers packed to any number of bits each, and increasing integers to fewer."""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]


def pack(values: Ints, width: int) -> Bytes:
    """Pack integers below ``2 ** width`` to ``width`` bits each.

    Example:
        >>> unpack(pack(np.array([5, 0, 7]), 3), 3, count=3)
        array([5, 0, 7])
    """
    bits = (values[:, None] >> np.arange(width)) & 1
    return np.packbits(bits.astype(np.uint8).reshape(-1), bitorder="little")


def unpack(packed: Bytes, width: int, *, count: int) -> Ints:
    """Unpack the integers of `pack`."""
    if width == 8:
        return packed[:count].astype(np.int64)
    bits = np.unpackbits(packed, count=count * width, bitorder="little").reshape(count, width)
    return bits @ (1 << np.arange(width))


def packed_size(count: int, width: int) -> int:
    """Return the number of bytes that `pack` needs."""
    return ceil(count * width / 8)


def pack_sorted(values: Ints, below: int) -> Bytes:
    """Pack n increasing integers below ``below`` to about ``2 + log2(below / n)`` bits each.

    The low bits of each integer are stored as they are. The high bits do not decrease; the
    difference of each from the one before is stored in unary, as that many zeros before a one.

    Elias, Efficient Storage and Retrieval by Content and Address of Static Files, 1974.

    Example:
        >>> unpack_sorted(pack_sorted(np.array([3, 4, 90]), 100), 100, count=3)
        array([ 3,  4, 90])
    """
    low = _low_bits(len(values), below)
    ones = np.zeros(len(values) + (below >> low) + 1, dtype=np.uint8)
    ones[(values >> low) + np.arange(len(values))] = 1
    return np.concatenate(
        [pack(values & ((1 << low) - 1), low), np.packbits(ones, bitorder="little")]
    )


def unpack_sorted(packed: Bytes, below: int, *, count: int) -> Ints:
    """Unpack the integers of `pack_sorted`."""
    low = _low_bits(count, below)
    split = packed_size(count, low)
    ones = np.flatnonzero(np.unpackbits(packed[split:], bitorder="little"))
    high = ones[:count] - np.arange(count)
    return (high << low) + (unpack(packed[:split], low, count=count) if low else 0)


def sorted_bits(count: int, below: int) -> int:
    """Return the approximate number of bits that `pack_sorted` needs."""
    low = _low_bits(count, below)
    return count * (low + 1) + (below >> low)


def _low_bits(count: int, below: int) -> int:
    return max((below // max(count, 1)).bit_length() - 1, 0)
