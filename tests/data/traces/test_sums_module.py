"""Solved sums are batches like those of files of traces."""

from __future__ import annotations

from pathlib import Path

import torch

from kdlight.data import TracesDataModule
from kdlight.data.traces import write_traces
from kdlight.data.traces.sums_module import SumsDataModule
from tests.support import tiny_lm


def test_it_is_equal_to_a_file_with_the_same_traces(tmp_path: Path) -> None:
    made = SumsDataModule(tiny_lm.tokenizer(), size=30, batch_size=4, validation_fraction=0.2)
    write_traces(tmp_path / "sums.jsonl", made.read())
    read = TracesDataModule(
        tiny_lm.tokenizer(),
        str(tmp_path / "sums.jsonl"),
        batch_size=4,
        per_prompt=None,
        validation_fraction=0.2,
    )
    for name in ("train_dataloader", "val_dataloader"):
        batches = [list(getattr(data, name)()) for data in (made, read)]
        assert len(batches[0]) == len(batches[1]) > 0
        for one, other in zip(*batches, strict=True):
            assert one.keys() == other.keys()
            assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_seed_decides_which_sums_there_are() -> None:
    first, same, other = (
        SumsDataModule(tiny_lm.tokenizer(), size=9, seed=seed).prompts for seed in (0, 0, 1)
    )
    assert first == same != other
