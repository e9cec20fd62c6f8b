"""Distances in blocks: the values and slopes of torch's own kernels, with ties and empty sides."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kdlight.losses.optimal_transport import blocks


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "FEW", 0)
    monkeypatch.setattr(blocks, "ENTRIES", 2000)


def points(dtype: torch.dtype, n: int = 9, m: int = 7, columns: int = 1100) -> list[Tensor]:
    x, y = (torch.rand(rows, columns, dtype=dtype) for rows in (n, m))
    if n and m:
        x[n // 2] = y[m // 2]  # points that meet
        x[:, 3] = y[0, 3]  # and a column in which all of them do
    return [x, y]


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_slopes_are_those_of_torch(p: int, dtype: torch.dtype) -> None:
    x, y = points(dtype)
    weights = torch.randn(len(x), len(y), dtype=dtype)
    x.requires_grad_()
    expected = torch.cdist(x, y, p, blocks.EXACT)
    found = blocks.blockwise_distances(x.detach(), y, p)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    (slopes,) = torch.autograd.grad((weights * expected).sum(), x)
    actual = blocks.distance_grad(weights, x.detach(), y, found, p)
    torch.testing.assert_close(actual, slopes, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (1, 1)])
def test_a_side_may_be_empty(p: int, n: int, m: int) -> None:
    x, y = points(torch.float32, n, m)
    found = blocks.blockwise_distances(x, y, p)
    assert found.shape == (n, m)
    slopes = blocks.distance_grad(torch.ones(n, m), x, y, found, p)
    assert slopes.shape == x.shape
    assert slopes.isfinite().all()


def test_a_distance_of_close_points_keeps_its_digits() -> None:
    x = torch.rand(4, 1100)
    y = x + 1e-6 * torch.rand_like(x)
    expected = (x[:, None].double() - y[None].double()).abs().sum(-1)
    torch.testing.assert_close(
        blocks.blockwise_distances(x, y, 1).double(), expected, rtol=1e-5, atol=0
    )


def test_nan_stays_visible() -> None:
    x, y = points(torch.float32)
    x[1, 5] = torch.nan
    found = blocks.blockwise_distances(x, y, 1)
    assert found[1].isnan().all()
    assert found[[0, 2]].isfinite().all()


def test_blocks_cover_all_columns_once() -> None:
    for rows, others, columns in ((3, 4, 5000), (100, 100, 1), (0, 0, 700), (5, 5, 0)):
        found = blocks.column_blocks(rows, others, columns)
        assert [c for each in found for c in range(columns)[each]] == list(range(columns))
