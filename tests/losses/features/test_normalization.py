"""Features of size 1, also where squares leave the range of float32, and zeros that stay zero."""

from __future__ import annotations

import pytest
import torch

from kdlight.losses.features.normalization import (
    inverse_norms,
    scaled,
    shifted_to_mean,
    unit_rows,
)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_rows_of_any_size_get_norm_1(size: float) -> None:
    rows = size * torch.randn(4, 6)
    torch.testing.assert_close(unit_rows(rows).norm(dim=-1), torch.ones(4))
    torch.testing.assert_close(unit_rows(rows), unit_rows(rows / size))


def test_a_row_of_zeros_remains_and_has_no_slope() -> None:
    rows = torch.tensor([[3.0, -4.0], [0.0, 0.0]], requires_grad=True)
    units = unit_rows(rows)
    assert units[1].tolist() == [0.0, 0.0]
    (slope,) = torch.autograd.grad(units[:, 0].sum(), rows)
    torch.testing.assert_close(slope, torch.tensor([[0.128, 0.096], [0.0, 0.0]]))
    assert inverse_norms(rows.detach())[1] == 0


def test_the_scale_leaves_the_slopes_of_a_function_without_scale_exact() -> None:
    rows = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    slopes = [
        torch.autograd.grad((f(rows) / f(rows).norm())[0, 0], rows)[0]
        for f in (lambda x: x, lambda x: scaled(x, (0, 1)))
    ]
    torch.testing.assert_close(slopes[1], slopes[0])


def test_the_largest_magnitude_is_1_where_there_is_one() -> None:
    features = torch.tensor([[[1.0, -8.0], [2.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert scaled(features, (1, 2)).abs().amax((1, 2)).tolist() == [1.0, 0.0]
    assert scaled(features[:0], (1, 2)).shape == (0, 2, 2)


def test_what_is_broken_stays_broken() -> None:
    for bad in (torch.nan, torch.inf):
        assert unit_rows(torch.tensor([1.0, bad])).isnan().any()


def test_rows_are_shifted_by_a_constant() -> None:
    rows = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    moved = shifted_to_mean(rows)
    torch.testing.assert_close(moved.mean(0), torch.zeros(3, dtype=torch.float64))
    assert torch.equal(torch.autograd.grad(moved.sum(), rows)[0], torch.ones_like(rows))
    assert shifted_to_mean(rows[:0]).shape == (0, 3)
