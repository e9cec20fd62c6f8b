"""A cache that is incomplete or damaged is not read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kdlight.cache import CacheReader, CacheWriter, read_manifest
from kdlight.cache.folder import complete
from tests.cache.caches import V, write


def test_an_incomplete_cache_is_not_read(tmp_path: Path, generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match=r"no cache in .*kdlight cache --config"):
        CacheReader(tmp_path)
    ids = torch.randint(V, (4, 9), generator=generator)
    writer = write(tmp_path, torch.randn(4, 9, V, generator=generator), ids)
    with pytest.raises(ValueError, match="not complete: run the command that started it again"):
        CacheReader(tmp_path)
    complete(tmp_path, writer.manifest)
    assert len(CacheReader(tmp_path)) == 4


@pytest.mark.parametrize("harm", ["flip", "cut", "lose", "swap"])
def test_damage_is_detected(harm: str, tmp_path: Path, generator: torch.Generator) -> None:
    ids = torch.randint(V, (4, 9), generator=generator)
    folder = tmp_path / "cache"
    writer = write(folder, torch.randn(4, 9, V, generator=generator), ids)
    complete(folder, writer.manifest)
    shard = folder / next(iter(read_manifest(folder).shards))
    content = bytearray(shard.read_bytes())
    if harm == "flip":
        content[-5] ^= 1
        shard.write_bytes(content)
    elif harm == "cut":
        shard.write_bytes(content[:-1])
    elif harm == "lose":
        shard.unlink()
    else:  # a shard of another cache, whole but not of this teacher
        other = write(tmp_path / "other", torch.randn(4, 9, V, generator=generator), ids, bits=6)
        (stranger, *_) = other.folder.glob("shard-*")
        stranger.rename(folder / stranger.name)
        with pytest.raises(ValueError, match="belongs to cache"):
            CacheWriter(folder, writer.manifest)
        shard.unlink()
        harm = "lose"
    with pytest.raises(ValueError, match="has lost its shard" if harm == "lose" else "damaged"):
        CacheReader(folder)
