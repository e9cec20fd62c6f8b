"""A manifest is read as it was written, and says how two caches differ."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdlight.cache import read_manifest
from tests.cache.caches import manifest


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = manifest(k=7)
    written.shards = {"shard-1.safetensors": 12}
    written.write(tmp_path)
    assert read_manifest(tmp_path) == written
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_another_format_is_refused_and_unknown_fields_are_ignored(tmp_path: Path) -> None:
    manifest().write(tmp_path)
    path = tmp_path / "manifest.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "new": 1}))
    assert read_manifest(tmp_path) == manifest()
    path.write_text(json.dumps({**content, "format": 2}))
    with pytest.raises(ValueError, match="has format 2, but this version .* reads format 1"):
        read_manifest(tmp_path)


def test_caches_of_the_same_teacher_and_settings_have_one_owner() -> None:
    one, other = manifest(), manifest(bits=6)
    assert one.owner == manifest().owner != other.owner
    assert one.differences(manifest()) == []
    (difference,) = one.differences(other)
    assert difference.startswith("settings: ")
    assert difference.index("'bits': 8") < difference.index("'bits': 6")
    renamed = manifest()
    renamed.data["name"] = "other data"
    assert renamed.owner == one.owner
