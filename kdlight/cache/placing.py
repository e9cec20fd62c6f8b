"""Stored sequences placed at the rows of a batch, as a logits source."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from kdlight.cache.records import Sequence
from kdlight.losses.topk import Tail
from kdlight.sources import TopK


def place_sequences(
    sequences: Mapping[int, Sequence],
    starts: Mapping[int, int],
    positions: torch.Size,
    *,
    vocabulary: int,
    device: torch.device,
    tail: Tail = "bucket",
    temperature: float = 1.0,
) -> TopK:
    """Return the source of a batch whose rows are ``sequences``.

    Positions that no sequence has hold a tail of NaN, so that they cannot be used by mistake.

    Args:
        sequences: the sequence of each row that has one, by the number of the row.
        starts: the position at which it begins, by the number of the row.
        positions: shape of the positions of the batch, ``(B, ...)``.
        vocabulary: V.
        device: of the source.
        tail: see `kdlight.TopK`.
        temperature: of the teacher.

    Example:
        >>> ids, log_probs = np.array([1]), np.array([-0.5], dtype=np.float32)
        >>> stored = Sequence(2, np.array([0]), ids, log_probs, log_probs)
        >>> place_sequences(
        ...     {0: stored}, {0: 1}, torch.Size([1, 3]), vocabulary=4, device=torch.device("cpu")
        ... ).log_tail
        tensor([[    nan, -0.5000,     nan]])
    """
    k = max((_most_stored(each) for each in sequences.values()), default=1)
    shape = (positions[0], positions[1:].numel(), k)
    ids = np.zeros(shape, dtype=np.int64)
    log_probs = np.full(shape, -np.inf, dtype=np.float32)
    log_tails = np.full(shape[:2], np.nan, dtype=np.float32)
    for number, sequence in sequences.items():
        begins = np.flatnonzero(np.diff(sequence.positions, prepend=-1))
        counts = np.diff(begins, append=len(sequence.positions))
        slots = np.arange(len(sequence.positions)) - np.repeat(begins, counts)
        columns = sequence.positions + starts[number]
        ids[number, columns, slots] = sequence.ids
        log_probs[number, columns, slots] = sequence.log_probs
        log_tails[number, columns[begins]] = sequence.log_tails
    kept_ids, kept_log_probs = (
        torch.from_numpy(each).reshape(*positions, k).to(device) for each in (ids, log_probs)
    )
    log_tail = torch.from_numpy(log_tails).reshape(positions).to(device)
    return TopK(
        kept_ids, kept_log_probs, vocabulary, tail=tail, log_tail=log_tail, temperature=temperature
    )


def _most_stored(sequence: Sequence) -> int:
    """Return the maximal number of stored tokens of a position."""
    return int(np.bincount(sequence.positions).max()) if len(sequence.positions) else 1
