from __future__ import annotations

import torch
from torch import nn

from kdlight.remote import student_ids
from kdlight.remote.rows import TokenRow
from kdlight.remote.student_ids import student_top
from kdlight.sources import Projected

ROWS = {0: TokenRow(b"", [1, 2, 3], 0), 2: TokenRow(b"", [1, 2], 1)}


def test_they_are_the_most_likely_ones() -> None:
    hidden, head = torch.randn(3, 3, 4), nn.Linear(4, 9)
    logits = head(hidden)
    wanted = logits.topk(2, -1).indices
    for source in (logits, Projected(hidden, head)):
        found = student_top(source, ROWS, 2)
        assert torch.equal(torch.from_numpy(found[0]), wanted[0])
        assert torch.equal(torch.from_numpy(found[2]), wanted[2, 1:])
        assert [*found] == [0, 2]


def test_a_position_that_does_not_count_costs_nothing() -> None:
    labels = torch.full((3, 3), -100)
    labels[0, 1] = 4
    logits = torch.full((3, 3, 9), torch.nan)
    logits[0, 1] = torch.arange(9.0)
    found = student_top(logits, ROWS, 2, labels)
    assert found[0].tolist() == [[0, 1], [8, 7], [0, 1]]


def test_many_positions_are_evaluated_in_chunks() -> None:
    count = 2 * student_ids.POSITIONS_PER_CHUNK + 3
    logits = torch.randn(1, count, 6)
    found = student_top(logits, {0: TokenRow(b"", [0] * count, 0)}, 3)[0]
    assert torch.equal(torch.from_numpy(found), logits[0].topk(3, -1).indices)


def test_k_is_at_most_the_vocabulary() -> None:
    assert student_top(torch.randn(3, 3, 9), ROWS, 50)[0].shape == (3, 9)
