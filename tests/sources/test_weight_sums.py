"""Weights of teachers are added up, also where other ranks evaluated some of the positions."""

from __future__ import annotations

import torch

from kdlight.sources.weight_sums import WeightSums

WEIGHTS = torch.tensor([[[0.5, 0.5], [1.0, 0.0]], [[0.25, 0.75], [0.25, 0.75]]])


def test_means_are_those_of_all_positions() -> None:
    sums = WeightSums()
    assert sums.means() is None
    for part in WEIGHTS:
        sums.add(part)
    assert sums.means().tolist() == [0.5, 0.5]  # type: ignore[union-attr]


def test_no_position_has_a_mean_of_0() -> None:
    for count in (0, torch.tensor(0.0)):
        sums = WeightSums(count=count)
        sums.add(WEIGHTS[:0])
        assert sums.means().tolist() == [0.0, 0.0]  # type: ignore[union-attr]


def test_a_count_of_all_ranks_is_not_changed_in_place() -> None:
    count = torch.tensor(2.0, dtype=torch.float64)
    sums = WeightSums(torch.tensor([2.0, 0.0]), count)
    sums.add(WEIGHTS[1])
    assert (sums.means().tolist(), count.item()) == ([0.625, 0.375], 2.0)  # type: ignore[union-attr]
