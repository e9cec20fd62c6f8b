"""The teacher on disk."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdlight.cache.fingerprints import fingerprint_tokenizer
from kdlight.cache.keys import Row, counted, rows_of
from kdlight.cache.manifest import read_manifest
from kdlight.cache.reader import CacheReader
from kdlight.cache.records import Sequence
from kdlight.losses.checks import check_positive
from kdlight.losses.topk import Tail, check_tail
from kdlight.sources import Logits, TopK
from kdlight.teachers.base import Teacher


class CachedTeacher(Teacher):
    """A teacher whose answers were written by ``kdlight cache``: it takes no memory and no time.

    Sequences are found by their content, so that epochs, shuffling, padding, ranks and a resumed
    run make no difference. What was kept is a `kdlight.TopK`; see there for what the choice of
    ``tail`` means to an objective.

    Args:
        path: the folder of the cache.
        tail: what becomes of the tokens that were not kept: ``"bucket"`` or ``"renormalise"``.
        temperature: of the teacher, above 0; above 1 it is less sure.
        verify: compare checksums when the cache is opened.

    Raises:
        ValueError: no complete cache, damaged shards; with a batch, a sequence that is not in it.

    Example:
        >>> CachedTeacher("nowhere")  # what `kdlight cache` has written is there
        Traceback (most recent call last):
        ValueError: no cache in 'nowhere': it has no manifest.json. Write one with ...
    """

    def __init__(
        self,
        path: str,
        *,
        tail: Tail = "bucket",
        temperature: float = 1.0,
        verify: bool = True,
    ) -> None:
        check_tail(tail)
        self.path = path
        self.tail: Tail = tail
        check_positive("temperature", temperature)
        self.temperature = float(temperature)
        self.verify = verify
        self.manifest = read_manifest(Path(path))
        self._device: torch.device | None = None

    @property
    def vocab_size(self) -> int:
        """Width V of the logits."""
        return self.manifest.vocabulary

    def prepare(self, device: torch.device) -> None:
        """Open the cache; answers go to ``device``."""
        self._device = device
        self._cache  # noqa: B018  # what is wrong with it is said before the run starts

    def check_tokenizer(self, tokenizer: Any) -> None:
        """Raise a ValueError where the cache was written with another tokenizer."""
        written = self.manifest.tokenizer.get("vocabulary")
        own = fingerprint_tokenizer(tokenizer)
        if None not in (written, own) and written != own:
            raise ValueError(
                f"the cache {self.path!r} was written with a tokenizer of fingerprint {written}, and"
                f" the data have {getattr(tokenizer, 'name_or_path', tokenizer)} of {own}; write the"
                " cache again with this tokenizer, or train with that one"
            )

    def answer(
        self, batch: Any, student: Logits | None = None, labels: Tensor | None = None
    ) -> TopK:
        """Return what the cache holds for ``batch``."""
        rows = rows_of(batch)
        sequences = self._sequences(batch, rows)
        width = _width(batch) if self.manifest.per_token else 1
        most = max((_most(each) for each in sequences.values()), default=1)
        shape = (len(rows), width, most)
        ids = np.zeros(shape, dtype=np.int64)
        log_probs = np.full(shape, -np.inf, dtype=np.float32)
        # nothing was stored here, and what reads it shall not take it for an answer
        log_tails = np.full(shape[:2], np.nan, dtype=np.float32)
        for number, sequence in sequences.items():
            starts = np.flatnonzero(np.diff(sequence.positions, prepend=-1))
            counts = np.diff(starts, append=len(sequence.positions))
            slots = np.arange(len(sequence.positions)) - np.repeat(starts, counts)
            places = sequence.positions + rows[number].start
            ids[number, places, slots] = sequence.ids
            log_probs[number, places, slots] = sequence.log_probs
            log_tails[number, places[starts]] = sequence.log_tails
        self._check_counted(batch, log_tails)
        parts = [torch.from_numpy(each) for each in (ids, log_probs, log_tails)]
        if not self.manifest.per_token:
            parts = [part.squeeze(1) for part in parts]
        device = self._device or _device(batch)
        ids, log_probs, log_tails = (part.to(device) for part in parts)
        return TopK(
            ids,
            log_probs,
            self.vocab_size,
            tail=self.tail,
            log_tail=log_tails,
            temperature=self.temperature,
        )

    @cached_property
    def _cache(self) -> CacheReader:
        return CacheReader(Path(self.path), verify=self.verify)

    def _sequences(self, batch: Any, rows: list[Row]) -> dict[int, Sequence]:
        keyed = {number: row.key for number, row in enumerate(rows) if row.key is not None}
        found = dict(zip(keyed, self._cache.find(list(keyed.values())), strict=True))
        missing = [number for number, place in found.items() if place < 0]
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(rows)} rows of this batch are not in {self._describe()};"
                f" the first is row {missing[0]}, {_begin(batch, rows[missing[0]], missing[0])}."
                " Train on the data, the tokenizer and the block size that the cache was written"
                " with, or write one for these"
            )
        return {number: self._cache.read(place) for number, place in found.items()}

    def _check_counted(self, batch: Any, log_tails: Any) -> None:
        mask = counted(batch)
        if mask is None or mask.numel() != log_tails.size:
            return
        absent = mask.numpy().reshape(log_tails.shape) & np.isnan(log_tails)
        if absent.any():
            row, position = np.argwhere(absent)[0].tolist()
            raise ValueError(
                f"{int(absent.sum())} positions count in this batch, but did not when"
                f" {self._describe()} was written; the first is position {position} of row {row}."
                " Mask the same labels as then, or write the cache again"
            )

    def _describe(self) -> str:
        data = self.manifest.data
        return (
            f"the cache {self.path!r} ({data.get('sequences')} sequences of {data.get('name')}, by"
            f" {self.manifest.teacher.get('name')})"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_cache"}


def _most(sequence: Sequence) -> int:
    return int(np.bincount(sequence.positions).max())


def _width(batch: Any) -> int:
    return batch["input_ids"].shape[1]


def _device(batch: Any) -> torch.device:
    values = batch.values() if hasattr(batch, "values") else batch
    tensors = [batch] if isinstance(batch, Tensor) else values
    return next((each.device for each in tensors if isinstance(each, Tensor)), torch.device("cpu"))


def _begin(batch: Any, row: Row, number: int) -> str:
    if not (hasattr(batch, "keys") and "input_ids" in batch):
        return "which is no sequence of tokens"
    tokens = batch["input_ids"][number, row.start : row.stop]
    return f"{len(tokens)} tokens beginning {tokens[:8].tolist()}"
