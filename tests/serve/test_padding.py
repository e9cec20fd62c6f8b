"""Every sequence is in one batch, and batches stay below their limit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlight.serve.padding import pad, plan_batches, row_positions

CPU = torch.device("cpu")


@settings(deadline=None)  # a machine may be busy
@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 99), st.booleans())
def test_every_sequence_is_in_one_batch(lengths: list[int], limit: int, padded: bool) -> None:
    batches = plan_batches(lengths, limit, padded=padded)
    assert sorted(number for batch in batches for number in batch) == list(range(len(lengths)))
    for batch in batches:
        own = [lengths[number] for number in batch]
        assert len(batch) == 1 or len(batch) * max(own) <= limit
        assert padded or len(set(own)) == 1


@settings(deadline=None)  # a machine may be busy
@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=7), min_size=1, max_size=5))
def test_positions_find_the_tokens_again(sequences: list[list[int]]) -> None:
    batch = pad(sequences, CPU)
    flat = batch["input_ids"].flatten()
    assert [flat[each].tolist() for each in row_positions(sequences)] == sequences
    mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"]))
    assert mask.sum(-1).tolist() == [len(each) for each in sequences]


@pytest.mark.parametrize(
    ("sequences", "has_mask"), [([[1, 2], [3, 4]], False), ([[1], [2, 3]], True)]
)
def test_only_padding_needs_a_mask(sequences: list[list[int]], has_mask: bool) -> None:
    assert ("attention_mask" in pad(sequences, CPU)) == has_mask
