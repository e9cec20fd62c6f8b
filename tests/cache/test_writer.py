"""Each sequence is stored once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kdlight.cache import CachedTeacher, CacheWriter
from kdlight.cache.folder import complete, prepare_folder
from kdlight.cache.shards import Shard
from kdlight.sources import Dense
from tests.cache.caches import V, manifest, write


def test_a_stored_sequence_is_not_stored_again(tmp_path: Path, generator: torch.Generator) -> None:
    logits = torch.randn(4, 9, V, generator=generator)
    ids = torch.randint(V, (4, 9), generator=generator)
    ids[3] = ids[0]
    writer = write(tmp_path, logits, ids)
    assert len(writer.known) == 3
    again = CacheWriter(tmp_path, writer.manifest)
    assert again.new_rows({"input_ids": ids}) == {}
    assert list(again.new_rows({"input_ids": ids + 1})) == [0, 1, 2]


def test_a_shard_is_written_when_it_is_full(tmp_path: Path, generator: torch.Generator) -> None:
    logits = torch.randn(4, 9, V, generator=generator)
    ids = torch.randint(V, (4, 9), generator=generator)
    made_of = manifest()
    prepare_folder(tmp_path, made_of)
    writer = CacheWriter(tmp_path, made_of, shard_positions=17)
    batch = {"input_ids": ids}
    writer.add(writer.new_rows(batch), Dense(logits), None)
    shards = [Shard(path, owner=made_of.owner) for path in tmp_path.glob("shard-*")]
    assert [shard.positions for shard in shards] == [24]  # three rows, without their last position
    writer.flush()
    shards = [Shard(path, owner=made_of.owner) for path in tmp_path.glob("shard-*")]
    assert sum(shard.positions for shard in shards) == 32


def test_masked_positions_are_not_stored_but_their_row_is_known(
    tmp_path: Path, generator: torch.Generator
) -> None:
    ids = torch.randint(V, (2, 9), generator=generator)
    mask = torch.zeros(2, 9, dtype=torch.bool)
    mask[1, 2:5] = True
    writer = write(tmp_path, torch.randn(2, 9, V, generator=generator), ids, mask)
    (path,) = tmp_path.glob("shard-*")
    shard = Shard(path, owner=writer.manifest.owner)
    assert (len(shard.keys), shard.positions) == (2, 3)
    assert writer.new_rows({"input_ids": ids}) == {}


@pytest.mark.parametrize("bits", [8, 32])
def test_a_row_without_a_stored_position_is_known_to_have_none(bits: int, tmp_path: Path) -> None:
    ids, mask = torch.randint(V, (2, 4)), torch.zeros(2, 4, dtype=torch.bool)
    writer = write(tmp_path, torch.randn(2, 4, V), ids, mask, bits=bits)
    complete(tmp_path, writer.manifest)
    with pytest.raises(ValueError, match="6 positions are valid in this batch, but were not when"):
        CachedTeacher(str(tmp_path))({"input_ids": ids})


def test_a_shard_without_positions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shard_positions must be at least 1, got 0"):
        CacheWriter(tmp_path, manifest(), shard_positions=0)
