"""Temperature, masked columns, and logits that are used on another device."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdlight import Dense, Projected, TopK
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
def test_a_temperature_divides_all_logits(source: LogitsSource) -> None:
    twice = tempered(tempered(source, 2.0), 1.5)
    assert type(twice) is type(source)
    torch.testing.assert_close(twice.logits(), source.logits() / 3)
    torch.testing.assert_close(twice.select(torch.tensor([2])).logits(), source.logits()[2:3] / 3)


def test_a_temperature_of_one_changes_nothing() -> None:
    source = Dense(LOGITS)
    assert tempered(source, 1.0) is source


def test_temperatures_of_a_top_k_source_are_multiplied() -> None:
    source = tempered(tempered(TopK.of(LOGITS, 5), 2.0), 1.5)
    assert isinstance(source, TopK)
    assert source.temperature == 3.0
    torch.testing.assert_close(source.logits(), (LOGITS / 3).log_softmax(-1))


def test_half_precision_is_divided_in_float32() -> None:
    assert tempered(Dense(LOGITS.half()), 3.0).dtype == torch.float32


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
