"""Scores of several sequences are packed and unpacked, in few bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlight.cache.records import BITS, Sequence, decode, encode
from kdlight.remote.packing import pack_sequences, unpack_sequences
from tests.support.scored import is_same, scored


@settings(deadline=None)  # a machine may be busy
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.integers(1, 40),
    st.sampled_from(BITS),
)
def test_scores_come_back_as_those_of_one_do(lengths: list[int], k: int, bits: int) -> None:
    before = scored(lengths, k=k, vocabulary=37)
    tensors, entries = pack_sequences(before, vocabulary=37, bits=bits)
    after = unpack_sequences(tensors, entries, lengths, vocabulary=37, bits=bits)
    assert entries == sum(len(each.ids) for each in before)
    for one, other in zip(before, after, strict=True):
        alone = decode(encode(one, vocabulary=37, bits=bits), vocabulary=37, bits=bits)
        assert is_same(alone, other)


@pytest.mark.parametrize(("bits", "error"), [(8, 0.05), (16, 5e-3), (32, 0.0)])
def test_log_probabilities_change_little(bits: int, error: float) -> None:
    before = scored([5, 3], k=20, vocabulary=100)
    tensors, entries = pack_sequences(before, vocabulary=100, bits=bits)
    after = unpack_sequences(tensors, entries, [5, 3], vocabulary=100, bits=bits)
    for one, other in zip(before, after, strict=True):
        assert abs(one.log_probs - other.log_probs).max() <= error


def test_positions_may_have_any_number_of_tokens_or_none() -> None:
    none = np.zeros(0, dtype=np.int64)
    before = [
        Sequence(4, none, none, none.astype(np.float32), none.astype(np.float32)),
        Sequence(
            5,
            np.array([1, 1, 4]),
            np.array([0, 8, 3]),
            np.array([-1.0, -2.0, -0.5], dtype=np.float32),
            np.array([-1.5, -2.5], dtype=np.float32),
        ),
        Sequence(1, none, none, none.astype(np.float32), none.astype(np.float32)),
    ]
    for given_here in (before, before[:1]):
        lengths = [each.length for each in given_here]
        tensors, entries = pack_sequences(given_here, vocabulary=9, bits=32)
        after = unpack_sequences(tensors, entries, lengths, vocabulary=9, bits=32)
        assert all(map(is_same, given_here, after))


@pytest.mark.parametrize("bits", [8, 32])
@pytest.mark.parametrize("name", ["ids", "values", "scales"])
def test_a_part_that_is_missing_or_short_is_noticed(name: str, bits: int) -> None:
    tensors, entries = pack_sequences(scored([6], k=5, vocabulary=50), vocabulary=50, bits=bits)
    short = {**tensors, name: tensors[name][: len(tensors[name]) // 2]}
    missing = {key: tensor for key, tensor in tensors.items() if key != name}
    for wrong in (short, missing):
        with pytest.raises(ValueError, match=r".+"):
            unpack_sequences(wrong, entries, [6], vocabulary=50, bits=bits)


@settings(deadline=None)  # a machine may be busy
@given(st.binary(min_size=1, max_size=60), st.integers(0, 2**40), st.sampled_from([8, 32]))
def test_wrong_parts_are_an_error_and_take_no_memory(ids: bytes, entries: int, bits: int) -> None:
    parts = {
        "ids": torch.frombuffer(bytearray(ids), dtype=torch.uint8),
        "values": torch.zeros(8, dtype=torch.uint8),
        "scales": torch.zeros(2, 3 if bits == 8 else 1),
    }
    try:
        (read,) = unpack_sequences(parts, entries, [2], vocabulary=9, bits=bits)
    except ValueError:
        return
    assert len(read.ids) == len(read.log_probs) == entries
    assert set(read.positions.tolist()) <= {0, 1}


def test_what_unpacks_to_more_than_it_should_is_refused() -> None:
    before = scored([6], k=5, vocabulary=50)
    tensors, entries = pack_sequences(before, vocabulary=50, bits=8)
    more, _ = pack_sequences(scored([60], k=5, vocabulary=50), vocabulary=50, bits=8)
    with pytest.raises(ValueError, match="bytes of log-probabilities instead of 30"):
        unpack_sequences({**tensors, "values": more["values"]}, entries, [6], vocabulary=50, bits=8)
