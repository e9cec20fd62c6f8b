"""Heads whose vocabulary is divided; the tests of shares have all objectives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from kdlight import Projected
from kdlight.reduce.divided_head import columns_of_ranks, has_divided_head


@pytest.mark.parametrize("ranks", range(1, 7))
def test_columns_are_those_of_a_sharded_tensor(ranks: int) -> None:
    for vocabulary in range(1, 12):
        parts = torch.zeros(vocabulary).chunk(ranks)
        expected = [len(part) for part in parts] + [0] * (ranks - len(parts))
        assert columns_of_ranks(vocabulary, ranks) == expected


def test_a_whole_head_is_not_divided() -> None:
    assert not has_divided_head(Projected(torch.zeros(2, 3), nn.Linear(3, 4)), None)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 2e-2), ("float16", 2e-2)])
def test_gradients_in_half_precision_do_not_underflow(
    dtype: str, tolerance: float, on_two: list[Any], on_four: list[Any]
) -> None:
    assert all(rank["half"][f"torch.{dtype}"] < tolerance for rank in (*on_two, *on_four))
