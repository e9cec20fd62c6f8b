"""From a teacher's answers to shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdlight.cache.keys import Row, rows_of
from kdlight.cache.manifest import Manifest
from kdlight.cache.records import Record, Sequence, encode
from kdlight.cache.settings import Settings
from kdlight.cache.shards import PATTERN, Shard, write_shard
from kdlight.sources import LogitsSource, TopK


class CacheWriter:
    """Writes what is new of a teacher's answers, shard by shard.

    Args:
        folder: where the shards go.
        manifest: what the cache is made of.
        shard_positions: positions of a shard: about how many an interruption loses.

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
        self.folder, self.manifest = folder, manifest
        self.shard_positions = shard_positions
        self.settings = Settings(**manifest.settings)
        self.known: set[bytes] = set()
        for path in folder.glob(PATTERN):
            self.known.update(map(bytes, Shard(path, owner=manifest.owner).keys))
        self._keys: list[bytes] = []
        self._records: list[Record] = []
        self._positions = 0

    def new_rows(self, batch: Any) -> dict[int, Row]:
        """Rows of ``batch``, by number, whose content is not stored yet; each content once."""
        first: dict[bytes, int] = {}
        rows = rows_of(batch)
        for number, row in enumerate(rows):
            if row.key is not None and row.key not in self.known:
                first.setdefault(row.key, number)
        return {number: rows[number] for number in first.values()}

    def add(self, rows: dict[int, Row], source: LogitsSource, mask: Tensor | None) -> None:
        """Store some rows of a batch, ``source`` being the answers to all of it.

        Args:
            rows: which rows, as from `new_rows`.
            source: logits ``(B, T, V)`` or ``(B, V)``.
            mask: which positions are worth storing, ``(B, T)`` or ``(B,)``; None for all.
        """
        positions = source.shape[:-1]
        width = positions[1] if len(positions) > 1 else 1
        worth = torch.ones(positions, dtype=torch.bool) if mask is None else mask.cpu()
        worth = worth.reshape(-1, width)
        places = {n: worth[n, row.start : row.stop].nonzero().flatten() for n, row in rows.items()}
        index = [place + n * width + rows[n].start for n, place in places.items()]
        if not sum(map(len, index)):
            return
        kept = self.settings.reduce(source, torch.cat(index).to(_device(source, mask)))
        begin = 0
        for number, place in places.items():
            if len(place):
                row, part = rows[number], kept.select(slice(begin, begin + len(place)))
                self._store(row, _sequence(row, place, part))
            begin += len(place)

    def _store(self, row: Row, sequence: Sequence) -> None:
        assert row.key is not None
        record = encode(sequence, vocabulary=self.manifest.vocabulary, bits=self.settings.bits)
        self._keys.append(row.key)
        self._records.append(record)
        self._positions += len(record.scales)
        self.known.add(row.key)
        if self._positions >= self.shard_positions:
            self.flush()

    def flush(self) -> None:
        """Write what has come together as a shard."""
        if self._keys:
            write_shard(self.folder, self._keys, self._records, owner=self.manifest.owner)
        self._keys, self._records, self._positions = [], [], 0


def _sequence(row: Row, place: Tensor, kept: TopK) -> Sequence:
    there = kept.log_probs > -torch.inf
    assert kept.log_tail is not None
    return Sequence(
        length=row.stop - row.start,
        positions=place[:, None].expand_as(there)[there].numpy(),
        ids=kept.ids[there].numpy(),
        log_probs=kept.log_probs[there].float().numpy(),
        log_tails=kept.log_tail.float().numpy(),
    )


def _device(source: LogitsSource, mask: Tensor | None) -> torch.device:
    if mask is not None:
        return mask.device
    return source.select(torch.arange(0)).logits().device
