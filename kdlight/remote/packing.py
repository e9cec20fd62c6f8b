"""The scores of several sequences as three tensors of few bytes."""

from __future__ import annotations

import zlib
from collections.abc import Sequence as Many

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdlight.cache.records import EXACT, Record, Sequence, decode, encode


def pack_sequences(
    sequences: Many[Sequence], *, vocabulary: int, bits: int
) -> tuple[dict[str, Tensor], int]:
    """Return the scores of ``sequences``, packed as one, and the number of their entries.

    The tensors are those of a `kdlight.cache.records.Record` of all sequences in a row. The codes
    of log-probabilities that are not exact are Huffman coded, since small ones are more frequent.

    Args:
        sequences: the sequences.
        vocabulary: number of tokens V.
        bits: bits of a log-probability, one of `kdlight.cache.records.BITS`.

    Example:
        >>> ids, tail = np.array([1, 4]), np.full(1, -1.0, dtype=np.float32)
        >>> one = Sequence(3, np.array([2, 2]), ids, np.full(2, -1.2, dtype=np.float32), tail)
        >>> tensors, entries = pack_sequences([one], vocabulary=9, bits=32)
        >>> (again,) = unpack_sequences(tensors, entries, [3], vocabulary=9, bits=32)
        >>> again.positions, again.ids
        (array([2, 2]), array([1, 4]))
    """
    starts = _starts([each.length for each in sequences])
    joined = Sequence(
        int(starts[-1]),
        np.concatenate([each.positions + at for each, at in zip(sequences, starts, strict=False)]),
        np.concatenate([each.ids for each in sequences]),
        np.concatenate([each.log_probs for each in sequences]).astype(np.float32),
        np.concatenate([each.log_tails for each in sequences]).astype(np.float32),
    )
    record = encode(joined, vocabulary=vocabulary, bits=bits)
    values = record.values if bits == EXACT else _deflate(record.values)
    parts = {"ids": record.ids, "values": values, "scales": record.scales}
    return {name: torch.from_numpy(part) for name, part in parts.items()}, record.entries


def unpack_sequences(
    tensors: dict[str, Tensor], entries: int, lengths: Many[int], *, vocabulary: int, bits: int
) -> list[Sequence]:
    """Return the sequences of `pack_sequences`, of the given ``lengths``.

    Raises:
        ValueError: the tensors are not those of such sequences.
    """
    starts = _starts(lengths)
    try:
        ids, values, scales = (tensors[name].numpy() for name in ("ids", "values", "scales"))
        if entries * 2 > len(ids) * 8:  # an id takes two bits at least
            raise ValueError(f"{entries} tokens cannot be in {len(ids)} bytes")
        values = values if bits == EXACT else _inflate(values, entries, bits)
        record = Record(int(starts[-1]), entries, ids, values, scales)
        joined = decode(record, vocabulary=vocabulary, bits=bits)
        stored, counts = np.unique(joined.positions, return_counts=True)
        if len(joined.log_probs) != entries or len(joined.log_tails) != len(stored):
            raise ValueError(f"{len(joined.log_probs)} values for {entries} tokens")
        if entries and not 0 <= joined.positions[0] <= joined.positions[-1] < starts[-1]:
            raise ValueError(f"positions {joined.positions[[0, -1]]} of {starts[-1]}")
    except (LookupError, TypeError, zlib.error) as error:
        raise ValueError(f"packed scores that cannot be read: {error}") from error
    ends = np.cumsum(counts)
    return [
        _part(joined, stored, ends, int(begin), int(end))
        for begin, end in zip(starts, starts[1:], strict=False)
    ]


def _part(joined: Sequence, stored: NDArray, ends: NDArray, begin: int, end: int) -> Sequence:
    """Return the sequence at positions ``begin`` to ``end`` of all."""
    first, last = np.searchsorted(stored, [begin, end])
    inside = slice(int(ends[first - 1]) if first else 0, int(ends[last - 1]) if last else 0)
    return Sequence(
        end - begin,
        joined.positions[inside] - begin,
        joined.ids[inside],
        joined.log_probs[inside],
        joined.log_tails[first:last],
    )


def _starts(lengths: Many[int]) -> NDArray[np.int64]:
    return np.cumsum([0, *lengths], dtype=np.int64)


def _deflate(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # without a search for repetitions, of which there are none
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zlib.Z_HUFFMAN_ONLY)
    packed = packer.compress(codes.tobytes()) + packer.flush()
    return np.frombuffer(packed, dtype=np.uint8).copy()


def _inflate(packed: NDArray[np.uint8], entries: int, bits: int) -> NDArray[np.uint8]:
    size = -(-entries * bits // 8)
    unpacked = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed.tobytes(), size + 1)
    if len(unpacked) != size:
        raise ValueError(f"{len(unpacked)} bytes of log-probabilities instead of {size}")
    return np.frombuffer(unpacked, dtype=np.uint8)
