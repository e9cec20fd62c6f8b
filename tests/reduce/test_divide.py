"""Whether ranks divide the rows of a loss, and how this is described."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from kdlight import Dense, Projected
from kdlight.reduce import describe_plan
from kdlight.reduce.divide import describe_division


@pytest.mark.slow
def test_the_description_tells_what_ranks_divide(on_two: list[Any]) -> None:
    for rank in on_two:
        rows, columns, whole = rank["described"]
        assert rows == (
            "logits of 9 positions x 7 entries are computed in chunks of 384 tokens"
            " (chunked is True); 2 ranks divide the positions"
        )
        assert columns == (
            "logits of 9 positions x 7 entries are computed in chunks by 2 ranks, which divide the"
            " vocabulary, and then the positions"
        )
        assert "ranks" not in whole


@pytest.mark.parametrize("chunked", [True, "auto", False])
def test_one_process_divides_nothing(chunked: Any) -> None:
    student, mask = Projected(torch.zeros(3, 4), nn.Linear(4, 5)), torch.tensor([True, False, True])
    teacher = Dense(torch.zeros(3, 5))
    described = describe_division(student, teacher, mask, chunked, None)
    assert described == describe_plan(student, teacher, mask, chunked)
