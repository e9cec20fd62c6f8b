"""One sequence as it lies in a shard: which tokens were kept at which positions, and how likely."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdlight.cache.bits import Bytes, Ints, pack, pack_sorted, sorted_bits, unpack, unpack_sorted

EXACT = 32
BITS = (4, 5, 6, 7, 8, 10, 12, 16, EXACT)
"""Bits of a log-probability: levels between the likeliest and the least, or a plain float32."""


class Sequence(NamedTuple):
    """Kept tokens of all stored positions, one after another, by position and id.

    Attributes:
        length: number of positions of the sequence, stored or not.
        positions: where each kept token stands ``(n,)``, not decreasing.
        ids: their ids ``(n,)``, increasing within a position.
        log_probs: their log-probabilities ``(n,)``.
        log_tails: log of the mass of all others, for each stored position ``(m,)``.
    """

    length: int
    positions: Ints
    ids: Ints
    log_probs: NDArray[np.float32]
    log_tails: NDArray[np.float32]


class Record(NamedTuple):
    """A `Sequence` in bytes."""

    length: int
    entries: int
    ids: Bytes
    values: Bytes
    scales: NDArray[np.floating]


def encode(sequence: Sequence, *, vocabulary: int, bits: int) -> Record:
    """Pack a sequence."""
    length, positions, ids, log_probs, log_tails = sequence
    keys = positions.astype(np.int64) * vocabulary + ids
    packed = pack_sorted(keys, length * vocabulary)
    if bits == EXACT:
        values = log_probs.astype(np.float32).view(np.uint8)
        return Record(length, len(ids), packed, values, log_tails.astype(np.float32)[:, None])
    starts = np.flatnonzero(np.diff(positions, prepend=-1))
    high, low = (f.reduceat(log_probs, starts) for f in (np.maximum, np.minimum))
    # in the precision that will be read, so that the likeliest is not above its own scale
    scales = np.stack([high, high - low, log_tails], -1).astype(np.float16)
    each = np.repeat(scales[:, :2].astype(np.float32), np.diff(starts, append=len(ids)), axis=0)
    depth = np.clip((each[:, 0] - log_probs) / np.maximum(each[:, 1], 1e-6), 0.0, 1.0)
    # levels lie closer together where tokens are likely, and an error costs more
    codes = np.rint(np.sqrt(depth) * (2**bits - 1)).astype(np.int64)
    return Record(length, len(ids), packed, pack(codes, bits), scales)


def decode(record: Record, *, vocabulary: int, bits: int) -> Sequence:
    """Unpack a sequence."""
    length, entries, packed, values, scales = record
    keys = unpack_sorted(packed, length * vocabulary, count=entries)
    positions, ids = np.divmod(keys, vocabulary)
    log_tails = scales[:, -1].astype(np.float32)
    if bits == EXACT:
        return Sequence(length, positions, ids, values.copy().view(np.float32), log_tails)
    depth = np.square(unpack(values, bits, count=entries).astype(np.float32) / (2**bits - 1))
    stored = np.cumsum(np.diff(positions, prepend=positions[:1]) != 0)
    high, spread = scales[stored, :2].astype(np.float32).T
    return Sequence(length, positions, ids, high - spread * depth, log_tails)


def bytes_per_position(k: int, *, vocabulary: int, bits: int) -> int:
    """About how many bytes a position with ``k`` tokens takes.

    Example:
        >>> bytes_per_position(50, vocabulary=49152, bits=8)
        131
    """
    scales = 4 if bits == EXACT else 6
    return ceil(sorted_bits(k, vocabulary) / 8 + k * bits / 8 + scales)
