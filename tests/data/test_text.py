"""No text is in both training and validation data, and no token is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kdlight.data import (
    Blocks,
    TextDataModule,
    read_documents,
)


def texts(blocks: Blocks, tokenizer) -> list[str]:
    """Return the documents in blocks, decoded from their labels."""
    ids = torch.cat([blocks[index]["labels"] for index in range(len(blocks))])
    signs = tokenizer.convert_ids_to_tokens(ids[ids != -100].tolist())
    return "".join(signs).split("<end>")[:-1]


def test_no_document_is_in_both_parts_and_none_is_lost(files, tokenizer):
    data = TextDataModule(tokenizer, files, block_size=16, validation_fraction=0.2)
    data.setup()
    train, held_out = texts(data.train_blocks, tokenizer), texts(data.validation_blocks, tokenizer)
    assert not set(train) & set(held_out)
    assert sorted(train + held_out) == sorted(read_documents(files))
    summary = data.summary
    assert summary["train_documents"] + summary["validation_documents"] == 40
    assert 0.15 < summary["validation_tokens"] / summary["train_tokens"] < 0.45
    assert summary["train_blocks"] == len(data.train_blocks)


def test_the_split_depends_on_the_seed_alone(files, tokenizer):
    def held_out(seed: int) -> list[str]:
        data = TextDataModule(tokenizer, files, block_size=16, seed=seed)
        data.setup()
        return texts(data.validation_blocks, tokenizer)

    first = held_out(0)
    torch.manual_seed(1)
    assert held_out(0) == first
    assert held_out(1) != first


def test_validation_files_are_kept_out_of_training(files, tokenizer, tmp_path):
    shared = read_documents(files)[3]
    (tmp_path / "held_out.txt").write_text(shared)
    data = TextDataModule(
        tokenizer, files, validation_files=str(tmp_path / "held_out.txt"), block_size=8
    )
    data.setup()
    assert texts(data.validation_blocks, tokenizer) == [shared]
    assert shared not in texts(data.train_blocks, tokenizer)
    assert data.summary["train_documents"] == 39


def test_fewer_tokens_can_be_asked_for(files, tokenizer):
    data = TextDataModule(tokenizer, files, block_size=16, max_tokens=300)
    summary = data.summary
    assert 300 <= summary["train_tokens"] + summary["validation_tokens"] < 400


def test_batches(files, tokenizer):
    data = TextDataModule(tokenizer, files, block_size=16, batch_size=3, eval_batch_size=5)
    batches = list(data.train_dataloader())
    assert sum(len(batch["input_ids"]) for batch in batches) == len(data.train_blocks)
    assert batches[0]["input_ids"].shape == batches[0]["labels"].shape == (3, 16)
    assert batches[0]["input_ids"].dtype == batches[0]["labels"].dtype == torch.long
    assert next(iter(data.val_dataloader()))["input_ids"].shape == (5, 16)
    for ours, theirs in zip(data.val_dataloader(), data.test_dataloader(), strict=True):
        assert torch.equal(ours["labels"], theirs["labels"])


def test_no_random_number_is_taken_from_the_model(files, tokenizer):
    before = torch.get_rng_state()
    data = TextDataModule(tokenizer, files, block_size=16)
    list(data.train_dataloader())
    list(data.val_dataloader())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "wrong",
    [
        {"block_size": 1},
        {"validation_fraction": 0.0},
        {"batch_size": 0},
        {"eval_batch_size": 0},
        {"max_tokens": 5},
        {"validation_fraction": -0.1},
        {"num_workers": -1},
        {"seed": 2**70},
        {"files": []},
    ],
)
def test_arguments_out_of_range(tokenizer, wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} must "):
        TextDataModule(tokenizer, **wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"text_field": 5},
        {"files": 5},
        {"validation_files": ["a.txt", 5]},
        {"block_size": 16.0},
        {"max_tokens": "300"},
        {"validation_fraction": "0.1"},
        {"spans": 5},
        {"tokenizer": 5},
    ],
    ids=range(8),
)
def test_arguments_of_another_kind(tokenizer, wrong):
    with pytest.raises(TypeError, match=f"^{next(iter(wrong))} must be "):
        TextDataModule(**{"tokenizer": tokenizer, **wrong})


def test_text_that_is_too_short_says_so(tokenizer, tmp_path):
    (tmp_path / "a.txt").write_text("too short")
    (tmp_path / "b.txt").write_text("long enough to be a block of its own")
    one = TextDataModule(tokenizer, [f"{tmp_path}/b.txt"], block_size=16)
    with pytest.raises(ValueError, match="0 tokens in 0 documents for training.*validation_files"):
        one.setup()
    short = TextDataModule(
        tokenizer, [f"{tmp_path}/b.txt"], validation_files=[f"{tmp_path}/a.txt"], block_size=16
    )
    with pytest.raises(ValueError, match="10 tokens in 1 documents for validation"):
        short.setup()


def test_the_data_module_finds_them_in_its_blocks(tmp_path: Path, tokenizer: Any) -> None:
    (tmp_path / "a.txt").write_text("some words, and others. " * 20)
    (tmp_path / "b.txt").write_text("more of the same, so to say. " * 20)
    data = TextDataModule(
        tokenizer, str(tmp_path / "*.txt"), block_size=16, batch_size=2, spans="punctuation"
    )
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert batch["span_ids"].shape == batch["input_ids"].shape
    assert data.span_ids is not None
    for row, found in zip(batch["input_ids"], batch["span_ids"], strict=True):
        assert torch.equal(data.span_ids(row), found)
    assert (batch["span_ids"] >= 0).any()
    plain = TextDataModule(tokenizer, str(tmp_path / "*.txt"), block_size=16)
    assert "span_ids" not in next(iter(plain.train_dataloader()))
