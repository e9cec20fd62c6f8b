"""Logits sources: rows of flattened positions, and networks that are called on a batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight.sources import Dense, LogitsSource, TopK, as_source
from kdlight.sources.base import select_rows

POSITIONS = torch.arange(12.0).view(2, 3, 2)


@pytest.mark.parametrize("index", [torch.tensor([4, 0]), slice(1, 3), None])
def test_rows_are_those_of_the_flattened_positions(index: Any) -> None:
    expected = POSITIONS.view(6, 2) if index is None else POSITIONS.view(6, 2)[index]
    assert torch.equal(select_rows(POSITIONS, index), expected)
    assert torch.equal(Dense(POSITIONS).select(index).logits(), expected)


def test_no_position_at_all_has_rows_too() -> None:
    assert select_rows(torch.zeros(2, 0, 5), None).shape == (0, 5)
    assert select_rows(torch.zeros(0, 0, 0), None).shape == (0, 0)


def test_a_source_has_the_dtype_and_the_device_of_its_tensor() -> None:
    source = Dense(torch.zeros(2, 3, dtype=torch.bfloat16, device="meta"))
    assert (source.shape, source.dtype, source.device.type) == ((2, 3), torch.bfloat16, "meta")


def test_a_source_that_ignores_the_student_has_no_parts() -> None:
    source = Dense(POSITIONS)
    assert source.given_student(torch.ones(6, 2)) is source.logits()
    assert source.parts == {}


def test_tensors_are_wrapped_and_sources_are_not() -> None:
    assert as_source(POSITIONS).logits() is POSITIONS
    source = TopK.of(POSITIONS, 1)
    assert as_source(source) is source
    with pytest.raises(TypeError, match=r"got NoneType.*derive a source of your own"):
        as_source(None)  # type: ignore[arg-type]


def test_a_source_must_define_all_of_the_contract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        type("Partial", (LogitsSource,), {"shape": (2, 3)})()
