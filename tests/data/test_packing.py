"""Blocks hold every token once and in order."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdlight.data import (
    Blocks,
    TextDataModule,
)
from kdlight.data.packing import encode


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(2, 7))
def test_blocks_hold_every_token_once_and_in_order(lengths, block_size):
    documents = [torch.arange(length) + 100 * i for i, length in enumerate(lengths)]
    blocks = Blocks(documents, block_size=block_size, padding=7)
    samples = [blocks[index] for index in range(len(blocks))]
    assert all(len(sample["input_ids"]) == block_size for sample in samples)
    labels = torch.cat([sample["labels"] for sample in samples])
    ids = torch.cat([sample["input_ids"] for sample in samples])
    assert torch.equal(labels[labels != -100], torch.cat(documents))
    assert torch.equal(ids, labels.masked_fill(labels == -100, 7))
    assert blocks.tokens == sum(lengths)
    assert len(ids) - blocks.tokens < block_size


def test_every_document_ends_with_the_end_of_text(tokenizer):
    documents = encode(["ab", "c", "de<end>"], tokenizer)
    assert [tokenizer.decode(ids).replace(" ", "") for ids in documents] == [
        "ab<end>",
        "c<end>",
        "de<end>",
    ]
    assert len(encode(["ab", "c", "de"], tokenizer, limit=4)) == 2


def test_a_tokenizer_without_an_end_of_text(tmp_path):
    class Endless:
        eos_token_id = None

        def __call__(self, texts):
            raise AssertionError("never asked")

    with pytest.raises(ValueError, match="no end-of-text"):
        TextDataModule(Endless(), block_size=16).setup()


@pytest.mark.parametrize("size", [0, -4, 2.5])
def test_a_block_has_at_least_one_token(size):
    with pytest.raises((TypeError, ValueError), match="^block_size must be "):
        Blocks([torch.arange(3)], block_size=size, padding=0)
