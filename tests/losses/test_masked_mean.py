"""The mean over valid positions."""

from __future__ import annotations

import math

import pytest
import torch

from kdlight import losses


def test_masked_mean_is_the_mean_of_what_is_kept() -> None:
    values = torch.arange(6.0).view(2, 3).requires_grad_()
    mask = torch.tensor([[1, 0, 1], [0, 0, 1]])
    mean = losses.masked_mean(values, mask)
    assert mean == (0 + 2 + 5) / 3
    (slope,) = torch.autograd.grad(mean, values)
    assert torch.equal(slope, mask / 3)
    assert losses.masked_mean(values, None) == values.mean()
    assert losses.masked_mean(values.bfloat16(), mask.bool()).dtype == torch.float32


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mask .* \(2, 3\), got \(3,\)"):
        losses.masked_mean(torch.zeros(2, 3), torch.ones(3))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_a_mask_drops_does_not_leak(bad: float) -> None:
    values = torch.tensor([1.0, bad, 3.0], requires_grad=True)
    mean = losses.masked_mean(values, torch.tensor([True, False, True]))
    assert mean == 2
    (slope,) = torch.autograd.grad(mean, values)
    assert torch.equal(slope, torch.tensor([0.5, 0.0, 0.5]))
    assert not losses.masked_mean(values, None).isfinite()


@pytest.mark.parametrize("size", [0, 3])
def test_a_mask_that_keeps_none_gives_zero_with_a_graph(size: int) -> None:
    values = torch.full((size,), math.nan, requires_grad=True)
    mean = losses.masked_mean(values, torch.zeros(size, dtype=torch.bool))
    assert mean == 0
    (slope,) = torch.autograd.grad(mean, values)
    assert torch.equal(slope, torch.zeros(size))
    assert losses.masked_mean(values[:0], None) == 0


def test_a_mask_of_floating_point_numbers_is_refused() -> None:
    with pytest.raises(TypeError, match="mask must be boolean.*got torch.float32; pass mask != 0"):
        losses.masked_mean(torch.zeros(3), torch.tensor([1.0, 0.5, 0.0]))
