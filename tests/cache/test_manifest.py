"""A manifest is read as it was written, and says how two caches differ."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "no JSON"),
        (b'{"format": 1, "teach', "no JSON"),
        (b"\xff\xfe\x00\x01", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[1, 2]", "holds a list"),
        (b"7", "holds a int"),
        (b'{"format": 1}', "missing 5 required"),
        ({"vocabulary": "many"}, "'vocabulary' is 'many'"),
        ({"vocabulary": True}, "'vocabulary' is True"),
        ({"settings": {"bits": 9}}, "'settings' is"),
        ({"settings": [1]}, "'settings' is"),
        ({"shards": {"../../shard-1.safetensors": 3}}, "'shards' is"),
        ({"shards": {"shard-1.safetensors": "3"}}, "'shards' is"),
        ({"shards": ["shard-1.safetensors"]}, "'shards' is"),
        ({"labels": "shifted"}, "'labels' is 'shifted'"),
        ({"place": "nowhere"}, "'place' is 'nowhere'"),
        ({"positions": 4}, "'positions' is 4"),
        ({"complete": "false"}, "'complete' is 'false'"),
        ({"teacher": "a name"}, "'teacher' is 'a name'"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_manifest_that_is_damaged_is_named(content: Any, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    if isinstance(content, dict):
        content = json.dumps({**asdict(manifest()), **content}).encode()
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"the manifest '{path}' is damaged: .*{fault}"):
        read_manifest(tmp_path)


def test_a_manifest_from_before_there_were_rules_is_read(tmp_path: Path) -> None:
    content = asdict(manifest())
    for name in ("labels", "ignore_index", "place", "positions", "image_tokens"):
        del content[name]
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    read = read_manifest(tmp_path)
    assert read.owner == manifest().owner == "a04e822953c4891b"
    assert (read.layout.labels, read.layout.place) == ("causal", "tokens")
    (tmp_path / "manifest.json").write_text(json.dumps({**content, "per_token": False}))
    assert read_manifest(tmp_path).layout.place == "row"


def test_another_rule_of_the_labels_is_another_cache() -> None:
    one, other = manifest(), manifest()
    other.labels = "aligned"
    assert one.owner != other.owner
    assert one.differences(other) == ["labels: causal and aligned"]
