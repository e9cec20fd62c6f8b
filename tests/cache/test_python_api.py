"""A cache written from Python equals the one that the command writes."""

from __future__ import annotations

from collections import UserDict
from pathlib import Path

import pytest

from kdlight.cache import CacheReader, Settings, cache_teacher
from kdlight.cache.cache_pass import write_cache
from tests.support import toy


def test_the_cache_equals_that_of_the_command(tmp_path: Path) -> None:
    """For a module, its teacher, its network; for a data module, and for batches of a tokenizer."""
    module, data = toy.module(), toy.RaggedModule(5)
    folder = tmp_path / "expected"
    write_cache(module, data, toy.trainer(tmp_path), str(folder), Settings(k=5))
    expected = CacheReader(folder)
    for teacher in (module, module.teacher, module.teacher.model):  # type: ignore[union-attr]
        folder = tmp_path / type(teacher).__name__
        cached = cache_teacher(teacher, data, str(folder), k=5, trainer=toy.trainer(tmp_path))
        assert cached.manifest.data["fingerprint"] == expected.manifest.data["fingerprint"]
        assert cached.manifest.owner == expected.manifest.owner
    batches = [UserDict(batch) for batch in toy.loader(5)]
    cached = cache_teacher(module, batches, str(tmp_path / "loader"), trainer=toy.trainer(tmp_path))
    for batch in batches:
        assert cached(batch).shape == (*batch["input_ids"].shape, toy.VOCABULARY)


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    data = toy.RaggedModule(5)
    with pytest.raises(ValueError, match="k must be at least 1"):
        cache_teacher(toy.ToyLM(), data, str(tmp_path / "c"), k=0, trainer=toy.trainer(tmp_path))
    with pytest.raises(TypeError, match="teacher must be a network, .* got None"):
        cache_teacher(None, data, str(tmp_path / "c"), trainer=toy.trainer(tmp_path))
