"""Shares of rows, and what ranks exchange."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from kdlight.reduce.exchange import Shares, gather_uneven, group_size


@pytest.mark.parametrize("ranks", range(1, 6))
def test_shares_are_consecutive_and_even(ranks: int) -> None:
    for rows in range(12):
        every = [Shares(rows, ranks, rank) for rank in range(ranks)]
        slices = [each.own for each in every]
        assert all(each.slices == slices for each in every)
        assert (slices[0].start, slices[-1].stop) == (0, rows)
        assert all(first.stop == second.start for first, second in pairwise(slices))
        assert every[0].counts == [each.stop - each.start for each in slices]
        assert max(every[0].counts) - min(every[0].counts) <= 1


def test_one_process_keeps_its_rows() -> None:
    rows = torch.ones(2, 3, requires_grad=True)
    (gathered,) = gather_uneven(rows, [2], None)
    assert gathered.data_ptr() == rows.data_ptr()
    assert not gathered.requires_grad
    assert group_size(None) == 1


@pytest.mark.slow
def test_ranks_send_different_numbers_of_rows(on_two: list[Any], on_four: list[Any]) -> None:
    assert [rank["exchanged"] for rank in on_two] == [[0, 1, 1], [0, 1]]
    assert on_four[0]["exchanged"] == [0, 1, 1, 2, 2, 2, 3, 3, 3, 3]
    assert all(rank["exchanged"] == [0, 1, 2, 3] for rank in on_four[1:])


@pytest.mark.slow
def test_gradients_with_common_memory_are_summed_once(on_two: list[Any]) -> None:
    for rank in on_two:
        assert rank["summed"] == [1.0, 2.0, 4.0, 4.0, 12.0]
