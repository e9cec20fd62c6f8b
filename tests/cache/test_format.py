"""How a cache lies on disk: what goes in comes out, and what is not whole is not taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kdlight import losses
from kdlight.cache import CacheReader, CacheWriter, Manifest, Settings, read_manifest
from kdlight.cache.bit_packing import pack, pack_sorted, sorted_bits, unpack, unpack_sorted
from kdlight.cache.folder import complete, prepare_folder
from kdlight.cache.row_keys import rows_of
from kdlight.cache.records import BITS, Sequence, bytes_per_position, decode, encode
from kdlight.sources import Dense, TopK

V = 300


def manifest(**settings: Any) -> Manifest:
    return Manifest(
        teacher={"name": "toy", "weights": "0"},
        tokenizer={},
        data={"name": "toy"},
        vocabulary=V,
        settings=Settings(**settings)._asdict(),
    )


@given(st.lists(st.integers(0, 2**13 - 1), max_size=50), st.integers(13, 20))
def test_numbers_come_back(values: list[int], width: int) -> None:
    array = np.array(values, dtype=np.int64)
    assert (unpack(pack(array, width), width, count=len(array)) == array).all()


@given(st.sets(st.integers(0, 5000), min_size=1), st.integers(0, 10**6))
def test_sorted_numbers_come_back_in_few_bits(values: set[int], beyond: int) -> None:
    array, below = np.array(sorted(values), dtype=np.int64), 5001 + beyond
    packed = pack_sorted(array, below)
    assert (unpack_sorted(packed, below, count=len(array)) == array).all()
    assert len(packed) <= sorted_bits(len(array), below) / 8 + 2


def sequence(generator: torch.Generator, *, k: int = 20, length: int = 40) -> tuple[Sequence, TopK]:
    logits = 3 * torch.randn(length, V, generator=generator)
    kept = Settings(k=k).reduce(Dense(logits), torch.arange(length))
    assert kept.log_tail is not None
    stored = torch.arange(length).repeat_interleave(k).numpy()
    flat = (stored, kept.ids.flatten().numpy(), kept.log_probs.flatten().numpy())
    return Sequence(length, *flat, kept.log_tail.numpy()), kept


@pytest.mark.parametrize("bits", BITS)
def test_a_sequence_comes_back_with_a_small_error(bits: int, generator: torch.Generator) -> None:
    before, exact = sequence(generator)
    record = encode(before, vocabulary=V, bits=bits)
    after = decode(record, vocabulary=V, bits=bits)
    assert after.length == before.length
    assert (after.positions == before.positions).all()
    assert (after.ids == before.ids).all()
    size = len(record.ids) + len(record.values) + record.scales.nbytes
    assert size / before.length == pytest.approx(
        bytes_per_position(20, vocabulary=V, bits=bits), 0.03
    )
    values = torch.from_numpy(after.log_probs).view(exact.log_probs.shape)
    read = TopK(exact.ids, values, V, log_tail=torch.from_numpy(after.log_tails))
    student = torch.randn(before.length, V, generator=generator)
    error = losses.forward_kl(read.given_student(student), exact.given_student(student)).mean()
    assert error <= {4: 1e-2, 5: 3e-3, 6: 1e-3, 7: 3e-4, 8: 1e-4}.get(bits, 1e-5)
    if bits == 32:
        assert error == 0


def write(folder: Path, logits: Tensor, ids: Tensor, mask: Tensor | None = None, **options: Any):
    """Write a cache of one batch."""
    made_of = manifest(**options)
    prepare_folder(folder, made_of)
    writer = CacheWriter(folder, made_of, shard_positions=20)
    batch = {"input_ids": ids}
    writer.add(writer.new_rows(batch), Dense(logits), mask)
    writer.flush()
    return writer


def test_top_p_keeps_what_has_the_mass(tmp_path: Path, generator: torch.Generator) -> None:
    logits = 4 * torch.randn(2, 9, V, generator=generator)
    ids = torch.randint(V, (2, 9), generator=generator)
    writer = write(tmp_path, logits, ids, k=200, top_p=0.9, bits=32)
    complete(tmp_path, writer.manifest)
    cache = CacheReader(tmp_path)
    read = cache.read(cache.find([rows_of({"input_ids": ids})[1].key or b""])[0])
    p = logits[1, :-1].softmax(-1).sort(-1, descending=True).values
    fewest = (p.cumsum(-1) < 0.9).sum(-1) + 1
    assert np.bincount(read.positions).tolist() == fewest.tolist()
    kept = np.add.reduceat(
        np.exp(read.log_probs), np.flatnonzero(np.diff(read.positions, prepend=-1))
    )
    np.testing.assert_allclose(kept + np.exp(read.log_tails), 1.0, rtol=1e-5)


def test_what_is_stored_is_not_stored_again(tmp_path: Path, generator: torch.Generator) -> None:
    logits = torch.randn(4, 9, V, generator=generator)
    ids = torch.randint(V, (4, 9), generator=generator)
    ids[3] = ids[0]
    writer = write(tmp_path, logits, ids)
    assert len(writer.known) == 3
    again = CacheWriter(tmp_path, writer.manifest)
    assert again.new_rows({"input_ids": ids}) == {}
    assert list(again.new_rows({"input_ids": ids + 1})) == [0, 1, 2]


def test_a_sequence_is_known_in_any_batch() -> None:
    ids, ignored = torch.tensor([[5, 6, 7, 0, 0]]), -100
    whole = {"input_ids": ids[:, :3], "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    alone = rows_of(whole)[0].key
    masked = {"input_ids": ids, "attention_mask": torch.tensor([[1, 1, 1, 0, 0]])}
    left = {"input_ids": ids.roll(2, 1), "attention_mask": torch.tensor([[0, 0, 1, 1, 1]])}
    assert rows_of(masked)[0].key == alone != rows_of({"input_ids": ids})[0].key
    assert rows_of(left)[0] == (alone, 2, 5)
    # padding that only the labels tell of; the last token is no input of a position that counts
    labels = torch.tensor([[5, 6, 7, ignored, ignored]])
    short = rows_of({"input_ids": ids[:, :4], "labels": labels[:, :4]})[0]
    assert rows_of({"input_ids": ids, "labels": labels})[0] == short == (short.key, 0, 2)
    nothing = {"input_ids": ids, "labels": torch.full_like(ids, ignored)}
    assert rows_of(nothing)[0].key is None


def test_images_are_known_by_their_pixels() -> None:
    images, labels = torch.arange(8.0).view(2, 4), torch.tensor([1, 0])
    keys = [row.key for row in rows_of((images, labels))]
    assert keys == [row.key for row in rows_of((images, 1 - labels))]
    assert keys[::-1] == [row.key for row in rows_of((images.flip(0), labels))]
    assert len(set(keys)) == 2
    assert [row.key for row in rows_of({"pixels": images, "labels": labels})] == keys


def test_an_unfinished_cache_is_no_teacher(tmp_path: Path, generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match=r"no cache in .*kdlight cache --config"):
        CacheReader(tmp_path)
    ids = torch.randint(V, (4, 9), generator=generator)
    writer = write(tmp_path, torch.randn(4, 9, V, generator=generator), ids)
    with pytest.raises(ValueError, match="not complete: give the command that began it once more"):
        CacheReader(tmp_path)
    complete(tmp_path, writer.manifest)
    assert len(CacheReader(tmp_path)) == 4


@pytest.mark.parametrize("harm", ["flip", "cut", "lose", "swap"])
def test_damage_is_seen(harm: str, tmp_path: Path, generator: torch.Generator) -> None:
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
    with pytest.raises(ValueError, match="lacks its shard" if harm == "lose" else "damaged"):
        CacheReader(folder)


def test_nothing_is_written_over(tmp_path: Path, generator: torch.Generator) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty, and holds no cache"):
        prepare_folder(tmp_path, manifest())
    folder = tmp_path / "cache"
    ids = torch.randint(V, (4, 9), generator=generator)
    writer = write(folder, torch.randn(4, 9, V, generator=generator), ids)
    with pytest.raises(ValueError, match=r"beginning of another cache.*'bits': 8.*'bits': 6"):
        prepare_folder(folder, manifest(bits=6))
    complete(folder, writer.manifest)
    with pytest.raises(ValueError, match="complete cache, which is not written over"):
        prepare_folder(folder, manifest())


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    prepare_folder(tmp_path, manifest())
    (tmp_path / "shard-1.safetensors.77.unfinished").write_bytes(b"half")
    (tmp_path / "shard-00.safetensors").write_bytes(b"whole, and not what was written")
    prepare_folder(tmp_path, manifest())
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize(
    ("settings", "why"),
    [({"k": 0}, "k must be"), ({"top_p": 0.0}, "top_p must be"), ({"bits": 9}, "bits must be")],
)
def test_settings_out_of_range(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Settings(**settings).check()
