"""One sequence in a shard: the stored tokens of each position and their log-probabilities."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdlight.cache.bit_packing import (
    Bytes,
    Ints,
    pack,
    pack_sorted,
    sorted_bits,
    unpack,
    unpack_sorted,
)

EXACT = 32
BITS = (4, 5, 6, 7, 8, 10, 12, 16, EXACT)
"""Numbers of bits of a log-probability: levels between the largest and the smallest, or float32."""


class Sequence(NamedTuple):
    """Stored tokens of all stored positions, sorted by position and id.

    Attributes:
        length: number of positions of the sequence, stored or not.
        positions: position of each stored token ``(n,)``, not decreasing.
        ids: token ids ``(n,)``, increasing within a position.
        log_probs: log-probabilities ``(n,)``.
        log_tails: log of the mass of all other tokens, for each stored position ``(m,)``.
    """

    length: int
    positions: Ints
    ids: Ints
    log_probs: NDArray[np.float32]
    log_tails: NDArray[np.float32]


class Record(NamedTuple):
    """A packed `Sequence`."""

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
    if not len(starts):  # no position is stored
        empty = np.zeros(0, dtype=np.uint8)
        return Record(length, 0, packed, empty, np.zeros((0, 3), dtype=np.float16))
    high, low = (f.reduceat(log_probs, starts) for f in (np.maximum, np.minimum))
    # rounded before use, so that no log-probability is above the stored maximum
    scales = np.stack([high, high - low, log_tails], -1).astype(np.float16)
    spread = np.repeat(scales[:, :2].astype(np.float32), np.diff(starts, append=len(ids)), axis=0)
    depth = np.clip((spread[:, 0] - log_probs) / np.maximum(spread[:, 1], 1e-6), 0.0, 1.0)
    # levels are denser for likely tokens, where an error changes a loss more
    codes = np.rint(np.sqrt(depth) * (2**bits - 1)).astype(np.int64)
    return Record(length, len(ids), packed, pack(codes, bits), scales)


def decode(record: Record, *, vocabulary: int, bits: int) -> Sequence:
    """Unpack a sequence."""
    length, entries, packed, values, scales = record
    if not entries:
        none, nothing = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
        return Sequence(length, none, none, nothing, nothing)
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
    """Return the approximate number of bytes of a position with ``k`` tokens.

    Example:
        >>> bytes_per_position(50, vocabulary=49152, bits=8)
        131
    """
    scales = 4 if bits == EXACT else 6
    return ceil(sorted_bits(k, vocabulary) / 8 + k * bits / 8 + scales)
