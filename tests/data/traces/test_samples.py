"""Samples of chosen and rejected traces, and their padding in a batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight.data.traces.encode import EncodedTrace
from kdlight.data.traces.samples import TraceDataset, collate_samples, group_samples


def trace(prompt_id: str, *completion: int, rejected: bool = False) -> EncodedTrace:
    return EncodedTrace(prompt_id, [1, 2], list(completion), rejected)


CHOSEN, REJECTED = trace("a", 5, 6, 0), trace("a", 5, 7, 8, 0, rejected=True)
ALONE = trace("b", 9, 0, rejected=True)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("positives", [[CHOSEN]]),
        ("pairs", [[CHOSEN, REJECTED]]),
        ("unpaired", [[CHOSEN], [REJECTED], [ALONE]]),
    ],
)
def test_groups_by_kind(kind: Any, expected: Any) -> None:
    assert group_samples([CHOSEN, REJECTED, ALONE], kind=kind, per_prompt=1) == expected


def test_labels_are_ignored_on_prompt_and_padding() -> None:
    (sample,) = TraceDataset([[CHOSEN, REJECTED]], kind="pairs")
    assert sample["labels"].tolist() == [[-100, -100, 5, 6, 0, -100], [-100, -100, 5, 7, 8, 0]]
    assert sample["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 0], [1] * 6]
    assert sample["rejected"].tolist() == [False, True]


def test_parts_of_the_rejected_response_are_ignored_on_request() -> None:
    data = TraceDataset([[CHOSEN, REJECTED]], kind="pairs", mask_shared_prefix=True, mask_end=True)
    chosen, rejected = data[0]["labels"].tolist()
    assert chosen == [-100, -100, 5, 6, 0, -100]
    assert rejected == [-100, -100, -100, 7, 8, -100]
    assert data.longest == 6


def test_a_batch_is_padded_to_its_longest_sequence() -> None:
    data = TraceDataset([[CHOSEN], [ALONE]], kind="unpaired")
    batch = collate_samples([data[0], data[1]])
    assert batch["input_ids"].tolist() == [[1, 2, 5, 6, 0], [1, 2, 9, 0, 0]]
    assert batch["labels"][1].tolist() == [-100, -100, 9, 0, -100]
    assert torch.equal(batch["rejected"], torch.tensor([False, True]))
    assert "rejected" not in TraceDataset([[CHOSEN]], kind="positives")[0]


def test_labels_are_ignored_between_turns() -> None:
    turns = ((0, 2), (3, 5))
    chosen = EncodedTrace("a", [1, 2], [5, 0, 7, 8, 0], rejected=False, turns=turns)
    rejected = EncodedTrace("a", [1, 2], [5, 0, 9, 6, 0], rejected=True, turns=turns)
    (sample,) = TraceDataset([[chosen, rejected]], kind="pairs")
    assert sample["labels"].tolist() == [
        [-100, -100, 5, 0, -100, 8, 0],
        [-100, -100, 5, 0, -100, 6, 0],
    ]
    assert sample["input_ids"].tolist() == [[1, 2, 5, 0, 7, 8, 0], [1, 2, 5, 0, 9, 6, 0]]
    (masked,) = TraceDataset([[chosen, rejected]], kind="pairs", mask_end=True)
    assert masked["labels"].tolist()[1] == [-100, -100, 5, -100, -100, 6, -100]
    (masked,) = TraceDataset([[chosen, rejected]], kind="pairs", mask_shared_prefix=True)
    assert masked["labels"].tolist()[1] == [-100] * 5 + [6, 0]
    unended = EncodedTrace("a", [1, 2], [5, 0, 9, 6], True, ended=False, turns=((0, 2), (3, 4)))
    (masked,) = TraceDataset([[chosen, unended]], kind="pairs", mask_end=True)
    assert masked["labels"].tolist()[1][:6] == [-100, -100, 5, -100, -100, 6]
