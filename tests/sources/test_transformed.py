"""Masked columns, and logits that are used on another device."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdlight import Dense, Projected
from kdlight.sources import LogitsSource, Moved, masked_columns, tempered

LOGITS = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))


def projected(transform: object = None) -> Projected:
    head = nn.Linear(5, 5, bias=False)
    nn.init.eye_(head.weight)
    return Projected(LOGITS, head, transform)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "source",
    [Dense(LOGITS), projected(), projected(torch.tanh)],
    ids=["dense", "projected", "transformed"],
)
def test_masked_columns_are_minus_infinity(source: LogitsSource) -> None:
    masked = masked_columns(source, torch.tensor([1, 3]))
    assert type(masked) is type(source)
    expected = source.logits().clone()
    expected[:, [1, 3]] = -torch.inf
    assert torch.equal(masked.logits(), expected)
    assert torch.equal(masked.select(slice(1, 2)).logits(), expected[1:2])
    assert masked_columns(source, torch.tensor([], dtype=torch.long)) is source


def test_a_projected_source_is_masked_after_it_is_tempered() -> None:
    masked = masked_columns(tempered(projected(), 2.0), torch.tensor([0]))
    assert torch.equal(masked.logits()[:, 1:], LOGITS[:, 1:] / 2)
    assert (masked.logits()[:, 0] == -torch.inf).all()


def test_logits_are_computed_on_one_device_and_used_on_another() -> None:
    home, target = torch.device("cpu"), torch.device("meta")
    source = Moved(Dense(LOGITS), home, target)
    assert (source.shape, source.dtype, source.device) == ((4, 5), torch.float32, target)
    assert source.logits().device == target
    assert source.source.device == home
    selected = source.select(torch.tensor([0, 3]))
    assert selected.shape == (2, 5)
    assert torch.equal(selected.source.logits(), LOGITS[[0, 3]])
