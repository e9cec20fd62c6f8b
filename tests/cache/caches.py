"""Caches of small teachers, for the tests of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from kdlight.cache import CacheWriter, Manifest, Settings
from kdlight.cache.cache_pass import write_cache
from kdlight.cache.folder import prepare_folder
from kdlight.sources import Dense
from tests.support import toy

V = 300


def manifest(**settings: Any) -> Manifest:
    """Return the manifest of a cache with some settings."""
    return Manifest(
        teacher={"name": "toy", "weights": "0"},
        tokenizer={},
        data={"name": "toy"},
        vocabulary=V,
        settings=Settings(**settings)._asdict(),
    )


def write(folder: Path, logits: Tensor, ids: Tensor, mask: Tensor | None = None, **options: Any):
    """Write a cache of one batch, and return its writer."""
    made_of = manifest(**options)
    prepare_folder(folder, made_of)
    writer = CacheWriter(folder, made_of, shard_positions=20)
    batch = {"input_ids": ids}
    writer.add(writer.new_rows(batch), Dense(logits), mask)
    writer.flush()
    return writer


ALL = Settings(k=None, bits=32)


def written(folder: Path, settings: Settings = ALL, **options: Any) -> Path:
    """Write a cache of the toy teacher on ragged data, and return its folder."""
    path = folder / "cache"
    module, data = toy.module(), toy.RaggedModule(5)
    write_cache(module, data, toy.trainer(folder), str(path), settings, **options)
    return path
