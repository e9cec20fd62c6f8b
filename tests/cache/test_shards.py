"""Shards are written atomically and read row by row."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from kdlight.cache.records import Sequence, decode, encode
from kdlight.cache.shards import Shard, is_intact, write_atomically, write_shard
from tests.cache.caches import V


def sequence(length: int) -> Sequence:
    positions = np.arange(length).repeat(2)
    ids = np.tile(np.array([3, 8]), length)
    log_probs = -np.arange(2 * length, dtype=np.float32)
    return Sequence(length, positions, ids, log_probs, np.zeros(length, dtype=np.float32))


def test_keyed_rows_different_lengths_are_read_from_a_shard(tmp_path: Path) -> None:
    sequences = [sequence(length) for length in (4, 1, 6)]
    records = [encode(each, vocabulary=V, bits=32) for each in sequences]
    path = write_shard(tmp_path, [bytes([i] * 16) for i in range(3)], records, owner="me")
    assert is_intact(path)
    shard = pickle.loads(pickle.dumps(Shard(path, owner="me")))
    assert shard.positions == 11
    assert shard.keys[:, 0].tolist() == [0, 1, 2]
    for row, expected in enumerate(sequences):
        read = decode(shard.record(row), vocabulary=V, bits=32)
        assert read.length == expected.length
        for name in ("positions", "ids", "log_probs", "log_tails"):
            np.testing.assert_array_equal(getattr(read, name), getattr(expected, name))
    with pytest.raises(ValueError, match="belongs to cache me, but is in the folder of cache you"):
        Shard(path, owner="you")


def test_a_failed_write_leaves_the_previous_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"before")
    with pytest.raises(TypeError):
        write_atomically(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"before"
    write_atomically(path, b"after")
    assert path.read_bytes() == b"after"


def test_a_changed_byte_is_detected(tmp_path: Path) -> None:
    record = encode(sequence(3), vocabulary=V, bits=8)
    path = write_shard(tmp_path, [bytes(16)], [record], owner="me")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert not is_intact(path)


def test_a_disk_that_is_full_names_the_file_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"before")
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # a file cannot be larger
    try:
        with pytest.raises(OSError, match=r"cannot write 5000 bytes .*run the same command") as e:
            write_atomically(path, bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert e.value.filename == str(path)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"before"


@pytest.mark.parametrize("damage", ["cut", "empty", "no header", "another file"])
def test_a_damaged_shard_is_named(damage: str, tmp_path: Path) -> None:
    record = encode(sequence(3), vocabulary=V, bits=8)
    path = write_shard(tmp_path, [bytes(16)], [record], owner="me")
    content = path.read_bytes()
    contents = {
        "cut": content[:-7],
        "empty": b"",
        "no header": b"\xff" * len(content),
        "another file": b"{}",
    }
    path.write_bytes(contents[damage])
    with pytest.raises(ValueError, match=f"the shard '{path}' is damaged"):
        Shard(path, owner="me")
