"""Rows of a batch, and what a student writes behind their prompts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight.callbacks.generation.rows import Row, continue_text, put_rows, take_rows
from tests.support import toy


def batch_of(*labels: list[int], masks: list[list[int]] | None = None) -> dict[str, Tensor]:
    made = torch.tensor(labels)
    ids = torch.arange(1, made.numel() + 1).view(made.shape) % 10 + 1
    found = {"input_ids": ids, "labels": torch.where(made < 0, -100, ids)}
    return found if masks is None else {**found, "attention_mask": torch.tensor(masks)}


def take(batch: dict[str, Tensor], **options: Any) -> list[Row]:
    return take_rows(batch, **{"prompt_tokens": 2, "max_new_tokens": None, **options})


def test_a_prompt_is_what_stands_before_the_first_label() -> None:
    rows = take(batch_of([-1, -1, -1, 1, 1], [1, 1, 1, 1, 1], [-1, 1, 1, -1, -1]))
    assert [row.prompt for row in rows] == [3, 2, 1]
    assert [row.limit for row in rows] == [5, 5, 5]
    assert [row.limit for row in take(batch_of([-1, -1, 1, 1, 1]), max_new_tokens=2)] == [4]


def test_rows_without_a_response_or_room_stay_as_they_are() -> None:
    nothing, short, wide = [-1] * 4, [1, 1, -1, -1], [-1, -1, -1, 1]
    rows = take(batch_of(nothing, short, wide))
    assert [row.prompt for row in rows] == [0, 0, 3]
    assert take(batch_of([1, 1, 1]), prompt_tokens=3)[0].prompt == 0


def test_padding_on_either_side_is_left_out() -> None:
    masks = [[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]]
    rows = take(batch_of([-1, -1, -1, 1, 1], [-1, 1, 1, -1, -1], masks=masks))
    assert [len(row.ids) for row in rows] == [3, 3]
    assert [row.prompt for row in rows] == [1, 1]


def test_rows_that_are_put_back_are_padded_and_only_responses_count() -> None:
    batch = batch_of([-1, -1, 1, 1], [-1, 1, 1, 1])
    rows = take(batch)
    rows[1] = rows[1].respond(torch.tensor([5, 7]))
    put_rows(batch, rows)
    assert batch["input_ids"][1].tolist() == [5, 7, 0, 0]
    assert batch["labels"][1].tolist() == [-100, 7, -100, -100]
    assert batch["attention_mask"].tolist() == [[1] * 4, [1, 1, 0, 0]]


def test_what_said_something_of_the_old_text_is_refused() -> None:
    for name, words in (("rejected", "say something of the"), ("span_ids", "give the data")):
        batch = {**batch_of([-1, 1]), name: torch.zeros(1)}
        with pytest.raises(ValueError, match=words):
            put_rows(batch, take(batch))


def test_rows_of_different_lengths_are_continued_as_each_would_be_alone() -> None:
    student: Any = toy.llama(seed=1).double()
    prefixes = [torch.tensor([3, 4, 5, 6, 7]), torch.tensor([2]), torch.tensor([8, 9, 1])]
    options: dict[str, Any] = {"end": [], "device": torch.device("cpu"), "do_sample": False}
    together = continue_text(student, prefixes, [4, 8, 2], **options)
    assert [len(text) for text in together] == [9, 9, 5]
    for prefix, room, text in zip(prefixes, [4, 8, 2], together, strict=True):
        (alone,) = continue_text(student, [prefix], [room], **options)
        assert torch.equal(alone, text)
        for at in range(len(prefix), len(text)):  # and as the model says without any cache
            logits = student({"input_ids": text[None, :at]}).logits()
            assert logits[0, -1].argmax() == text[at]


def test_a_text_ends_with_the_first_token_that_ends_it() -> None:
    student: Any = toy.llama(seed=1).double()
    options: dict[str, Any] = {"device": torch.device("cpu"), "do_sample": False}
    (long,) = continue_text(student, [torch.tensor([3, 4])], [9], end=[], **options)
    last = int(long[2])
    (short, other) = continue_text(
        student, [torch.tensor([3, 4]), torch.tensor([5])], [9, 9], end=[last], **options
    )
    assert short.tolist() == [3, 4, last]  # ended at once
    assert last not in other[1:-1].tolist()
