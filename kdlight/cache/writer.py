"""Writes a teacher's logits to shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdlight.cache.manifest import Manifest
from kdlight.cache.records import Record, Sequence, encode
from kdlight.cache.row_keys import KeyedRow, keyed_rows
from kdlight.cache.settings import Settings
from kdlight.cache.shards import PATTERN, Shard, write_shard
from kdlight.checks import check_integer
from kdlight.sources import LogitsSource, TopK


class CacheWriter:
    """Writes the logits of sequences that are not stored yet, shard by shard.

    Args:
        folder: the folder of the cache.
        manifest: the manifest of the cache.
        shard_positions: number of positions in a shard, about the number that an interruption
            loses.

    Raises:
        ValueError: If ``shard_positions`` is below 1, or a shard in the folder is damaged or of
            another cache.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from kdlight import Dense
        >>> settings = {"k": 2, "top_p": None, "bits": 32}
        >>> manifest = Manifest({"name": "a model"}, {}, {}, vocabulary=5, settings=settings)
        >>> batch = {"input_ids": torch.tensor([[1, 2, 3], [3, 2, 1]])}
        >>> with TemporaryDirectory() as folder:
        ...     writer = CacheWriter(Path(folder), manifest)
        ...     writer.add(writer.new_rows(batch), Dense(torch.randn(2, 3, 5)), None)
        ...     len(writer.new_rows(batch))
        0
    """

    def __init__(self, folder: Path, manifest: Manifest, *, shard_positions: int = 2**16) -> None:
        check_integer("shard_positions", shard_positions, 1)
        self.folder, self.manifest = folder, manifest
        self.shard_positions = shard_positions
        self.settings = Settings(**manifest.settings)
        self.known: set[bytes] = set()
        for path in folder.glob(PATTERN):
            self.known.update(map(bytes, Shard(path, owner=manifest.owner).keys))
        self._keys: list[bytes] = []
        self._records: list[Record] = []
        self._positions = 0

    def new_rows(self, batch: Any) -> dict[int, KeyedRow]:
        """Return the rows of ``batch`` that are not stored yet, by number, without duplicates."""
        first: dict[bytes, int] = {}
        rows = keyed_rows(batch, self.manifest.layout)
        for number, row in enumerate(rows):
            if row.key is not None and row.key not in self.known:
                first.setdefault(row.key, number)
        return {number: rows[number] for number in first.values()}

    def add(self, rows: dict[int, KeyedRow], source: LogitsSource, mask: Tensor | None) -> None:
        """Store some rows of a batch.

        Args:
            rows: the rows, from `new_rows`.
            source: logits of the whole batch, ``(B, ..., V)``.
            mask: the positions to store, ``(B, ...)``; None for all.
        """
        shape = source.shape[:-1]
        width = shape[1:].numel()
        stored = torch.ones(shape, dtype=torch.bool) if mask is None else mask.cpu()
        stored = stored.reshape(-1, width)
        positions = {
            number: stored[number, row.start : row.stop].nonzero().flatten()
            for number, row in rows.items()
        }
        index = [each + n * width + rows[n].start for n, each in positions.items()]
        kept = self.settings.reduce(source, torch.cat(index).to(source.device))
        begin = 0
        for number, each in positions.items():
            # a row of which no position counts is stored, too, so that it is known
            part = kept.select(slice(begin, begin + len(each)))
            self._store(rows[number], _sequence(rows[number], each, part))
            begin += len(each)

    def _store(self, row: KeyedRow, sequence: Sequence) -> None:
        assert row.key is not None
        record = encode(sequence, vocabulary=self.manifest.vocabulary, bits=self.settings.bits)
        self._keys.append(row.key)
        self._records.append(record)
        self._positions += len(record.scales)
        self.known.add(row.key)
        if self._positions >= self.shard_positions:
            self.flush()

    def flush(self) -> None:
        """Write the rows that are not on disk yet as a shard."""
        if self._keys:
            write_shard(self.folder, self._keys, self._records, owner=self.manifest.owner)
        self._keys, self._records, self._positions = [], [], 0


def _sequence(row: KeyedRow, positions: Tensor, kept: TopK) -> Sequence:
    is_kept = kept.log_probs > -torch.inf
    assert kept.log_tail is not None
    return Sequence(
        length=row.stop - row.start,
        positions=positions[:, None].expand_as(is_kept)[is_kept].numpy(),
        ids=kept.ids[is_kept].numpy(),
        log_probs=kept.log_probs[is_kept].float().numpy(),
        log_tails=kept.log_tail.float().numpy(),
    )
