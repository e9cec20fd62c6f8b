"""No file is overwritten, and unfinished shards are removed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kdlight.cache.folder import complete, prepare_folder
from tests.cache.caches import V, manifest, write


def test_nothing_is_overwritten(tmp_path: Path, generator: torch.Generator) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty and holds no cache"):
        prepare_folder(tmp_path, manifest())
    folder = tmp_path / "cache"
    ids = torch.randint(V, (4, 9), generator=generator)
    writer = write(folder, torch.randn(4, 9, V, generator=generator), ids)
    with pytest.raises(ValueError, match=r"beginning of another cache.*'bits': 8.*'bits': 6"):
        prepare_folder(folder, manifest(bits=6))
    complete(folder, writer.manifest)
    with pytest.raises(ValueError, match="complete cache, which is not overwritten"):
        prepare_folder(folder, manifest())


def test_unfinished_and_damaged_shards_are_removed(tmp_path: Path) -> None:
    prepare_folder(tmp_path, manifest())
    (tmp_path / "shard-1.safetensors.77.unfinished").write_bytes(b"half")
    (tmp_path / "shard-00.safetensors").write_bytes(b"whole, and not what was written")
    prepare_folder(tmp_path, manifest())
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
