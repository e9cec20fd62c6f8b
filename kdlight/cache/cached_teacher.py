"""A teacher whose logits are read from a cache."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdlight.cache.declared import check_declared
from kdlight.cache.fingerprints import fingerprint_tokenizer
from kdlight.cache.manifest import read_manifest
from kdlight.cache.placing import place_sequences
from kdlight.cache.reader import CacheReader
from kdlight.cache.records import Sequence
from kdlight.cache.row_keys import KeyedRow, keyed_rows
from kdlight.checks import check_positive
from kdlight.losses.topk import Tail, check_tail
from kdlight.sources import Logits, TopK
from kdlight.teachers.base import Teacher


class CachedTeacher(Teacher):
    """A teacher whose logits were written by ``kdlight cache``: no network is in memory or runs.

    Sequences are found by their content, so the cache works for any epoch, shuffling, padding,
    number of ranks, and for a resumed run. The stored logits are a `kdlight.TopK`, which describes
    what ``tail`` means for an objective.

    Args:
        path: the folder of the cache.
        tail: how the tokens that are not stored are treated: ``"bucket"`` or ``"renormalise"``.
        temperature: temperature of the teacher, above 0; above 1 flattens its distribution.
        verify: compare checksums when the cache is opened.
        teacher: the teacher that must have written the cache: its source, or its name or the
            fingerprint of its weights as they stand in the manifest; None for any.
        written_by: the model that must have written all the text, for traces; None for any.

    Raises:
        ValueError: If the cache is missing, incomplete, damaged, or not the declared one; when
            called, if a sequence of the batch is not in the cache.

    Example:
        >>> CachedTeacher("nowhere")  # a folder that `kdlight cache` has not written
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
        teacher: str | None = None,
        written_by: str | None = None,
    ) -> None:
        check_tail(tail)
        self.path = path
        self.tail: Tail = tail
        check_positive("temperature", temperature)
        self.temperature = float(temperature)
        self.verify = verify
        self.manifest = read_manifest(Path(path))
        check_declared(self.manifest, path, teacher=teacher, written_by=written_by)
        self._device: torch.device | None = None

    @property
    def vocab_size(self) -> int:
        """Width V of the logits."""
        return self.manifest.vocabulary

    def prepare(self, device: torch.device) -> None:
        """Open the cache, and set the device of the logits."""
        self._device = device
        self._cache  # noqa: B018  # a faulty cache is an error before the run starts

    def check_tokenizer(self, tokenizer: Any) -> None:
        """Raise a ValueError if the cache was written with another tokenizer."""
        written = self.manifest.tokenizer.get("vocabulary")
        own = fingerprint_tokenizer(tokenizer)
        if None not in (written, own) and written != own:
            name = getattr(tokenizer, "name_or_path", tokenizer)
            raise ValueError(
                f"the cache {self.path!r} was written with a tokenizer of fingerprint {written},"
                f" but the tokenizer of the data, {name}, has {own}; write the cache again with"
                " this tokenizer, or train with the other one"
            )

    def check_labels(self, rule: str, ignore_index: int) -> None:
        """Raise a ValueError if the cache was written with another rule of the labels."""
        written = (self.manifest.labels, self.manifest.ignore_index)
        if written != (rule, ignore_index):
            raise ValueError(
                f"the cache {self.path!r} was written with labels={written[0]!r} and"
                f" ignore_index={written[1]}, but this run has labels={rule!r} and"
                f" ignore_index={ignore_index}, so that other positions count; give the module"
                " those of the cache, or write the cache again with those of this run"
            )

    def answer(
        self, batch: Any, student: Logits | None = None, labels: Tensor | None = None
    ) -> TopK:
        """Return the stored logits of ``batch``."""
        layout = self.manifest.layout
        rows = keyed_rows(batch, layout)
        sequences = self._sequences(batch, rows)
        positions = layout.shape(batch, len(rows))
        source = place_sequences(
            sequences,
            {number: rows[number].start for number in sequences},
            positions,
            vocabulary=self.vocab_size,
            device=self._device or _device(batch),
            tail=self.tail,
            temperature=self.temperature,
        )
        self._check_stored(batch, source.log_tail)
        return source

    @cached_property
    def _cache(self) -> CacheReader:
        return CacheReader(Path(self.path), verify=self.verify)

    def _sequences(self, batch: Any, rows: list[KeyedRow]) -> dict[int, Sequence]:
        """Return the stored sequence of each row that has a key, by the number of the row."""
        keys = {number: row.key for number, row in enumerate(rows) if row.key is not None}
        indices = dict(zip(keys, self._cache.find(list(keys.values())), strict=True))
        missing = [number for number, index in indices.items() if index < 0]
        if missing:
            first = missing[0]
            raise ValueError(
                f"{len(missing)} of {len(rows)} rows of this batch are not in {self._describe()};"
                f" the first is row {first}, {_describe_row(batch, first)}. Train on"
                " the data, the tokenizer, the block size and the precision that the cache was"
                " written with, or write a cache for these. A row is found by all entries of a"
                f" batch except labels, {_describe_entries(batch)}; one whose first axis is not the"
                " rows, such as the patches of all images, is the same in the same batch only"
            )
        return {number: self._cache.read(index) for number, index in indices.items()}

    def _check_stored(self, batch: Any, log_tails: Tensor | None) -> None:
        valid = self.manifest.layout.valid_positions(batch)
        if valid is None or log_tails is None or valid.numel() != log_tails.numel():
            return
        absent = valid.reshape(len(valid), -1) & log_tails.cpu().reshape(len(valid), -1).isnan()
        if bool(absent.any()):
            row, position = absent.nonzero()[0].tolist()
            raise ValueError(
                f"{int(absent.sum())} positions are valid in this batch, but were not when"
                f" {self._describe()} was written; the first is position {position} of row {row}."
                " Use the same labels as then, or write the cache again"
            )

    def _describe(self) -> str:
        data = self.manifest.data
        return (
            f"the cache {self.path!r} ({data.get('sequences')} sequences of {data.get('name')}, by"
            f" {self.manifest.teacher.get('name')})"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_cache"}


def _describe_entries(batch: Any) -> str:
    return str([*map(str, batch)] if hasattr(batch, "keys") else type(batch).__name__)


def _device(batch: Any) -> torch.device:
    values = batch.values() if hasattr(batch, "values") else batch
    tensors = [batch] if isinstance(batch, Tensor) else values
    return next((each.device for each in tensors if isinstance(each, Tensor)), torch.device("cpu"))


def _describe_row(batch: Any, number: int) -> str:
    if not (hasattr(batch, "keys") and "input_ids" in batch):
        return "which is not a sequence of tokens"
    tokens, mask = batch["input_ids"][number], batch.get("attention_mask")
    if isinstance(mask, Tensor) and mask.shape == batch["input_ids"].shape:
        tokens = tokens[mask[number] != 0]
    return f"{len(tokens)} tokens beginning {tokens[:8].tolist()}"
