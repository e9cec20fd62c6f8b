"""The sequences of a batch, taken out and replaced."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight.callbacks.generation.rows import Row, put_rows, take_rows


def batch_of(*labels: list[int], masks: list[list[int]] | None = None) -> dict[str, Tensor]:
    valid = torch.tensor(labels) >= 0
    ids = torch.arange(1, valid.numel() + 1).view(valid.shape) % 10 + 1
    batch = {"input_ids": ids, "labels": torch.where(valid, ids, -100)}
    return batch if masks is None else {**batch, "attention_mask": torch.tensor(masks)}


def take(batch: dict[str, Tensor], **options: Any) -> list[Row]:
    return take_rows(batch, **{"prompt_tokens": 2, "max_new_tokens": None, **options})


def test_a_prompt_is_what_precedes_the_first_valid_label() -> None:
    rows = take(batch_of([-1, -1, -1, 1, 1], [1, 1, 1, 1, 1], [-1, 1, 1, -1, -1]))
    assert [row.prompt for row in rows] == [3, 2, 1]
    assert [row.limit for row in rows] == [5, 5, 5]
    assert [row.limit for row in take(batch_of([-1, -1, 1, 1, 1]), max_new_tokens=2)] == [4]


def test_rows_without_a_response_or_room_have_no_prompt() -> None:
    nothing, short, wide = [-1] * 4, [1, 1, -1, -1], [-1, -1, -1, 1]
    rows = take(batch_of(nothing, short, wide))
    assert [row.prompt for row in rows] == [0, 0, 3]
    assert take(batch_of([1, 1, 1]), prompt_tokens=3)[0].prompt == 0


def test_padding_on_either_side_is_left_out() -> None:
    masks = [[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]]
    rows = take(batch_of([-1, -1, -1, 1, 1], [-1, 1, 1, -1, -1], masks=masks))
    assert [len(row.ids) for row in rows] == [3, 3]
    assert [row.prompt for row in rows] == [1, 1]


def test_rows_that_are_put_back_are_padded_and_only_responses_are_valid() -> None:
    batch = batch_of([-1, -1, 1, 1], [-1, 1, 1, 1])
    rows = take(batch)
    rows[1] = rows[1].respond(torch.tensor([5, 7]))
    put_rows(batch, rows)
    assert batch["input_ids"][1].tolist() == [5, 7, 0, 0]
    assert batch["labels"][1].tolist() == [-100, 7, -100, -100]
    assert batch["attention_mask"].tolist() == [[1] * 4, [1, 1, 0, 0]]


def test_a_batch_with_entries_that_describe_the_old_text_is_refused() -> None:
    for name, message in (
        ("rejected", "describe the sequences in it"),
        ("span_ids", "give the data"),
    ):
        batch = {**batch_of([-1, 1]), name: torch.zeros(1)}
        with pytest.raises(ValueError, match=message):
            put_rows(batch, take(batch))
