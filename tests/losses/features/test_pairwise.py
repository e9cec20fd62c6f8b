"""Distances of all rows, and slopes between equal ones."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from kdlight.losses.features.pairwise import pairwise_distances


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_distances_and_their_derivatives() -> None:
    rows = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    expected = (rows[:, None] - rows).norm(dim=-1)
    torch.testing.assert_close(pairwise_distances(rows), expected)
    assert gradcheck(pairwise_distances, rows, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(pairwise_distances, rows)


def test_equal_rows_have_no_slope() -> None:
    rows = torch.tensor([[1.0, 2.0], [1.0, 2.0], [4.0, 6.0]], requires_grad=True)
    distances = pairwise_distances(rows)
    assert distances[0, 1] == 0
    (slope,) = torch.autograd.grad(distances[0, 1], rows, retain_graph=True)
    assert (slope == 0).all()
    (slope,) = torch.autograd.grad(distances.sum(), rows)
    torch.testing.assert_close(slope[2], torch.tensor([2.4, 3.2]))


def test_rows_that_are_close_keep_their_digits() -> None:
    rows = torch.tensor([[1.0, 0.0], [1.0, 1e-6]])
    assert pairwise_distances(rows)[0, 1].item() == pytest.approx(1e-6)


@pytest.mark.parametrize("count", [0, 1])
def test_few_rows(count: int) -> None:
    rows = torch.randn(count, 3, requires_grad=True)
    distances = pairwise_distances(rows)
    assert distances.tolist() == [[0.0]] * count
    assert (torch.autograd.grad(distances.sum(), rows)[0] == 0).all()


def test_nothing_of_rows_times_rows_times_width_is_kept() -> None:
    rows, saved = torch.randn(20, 300, requires_grad=True), []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        pairwise_distances(rows).sum().backward()
    assert sum(saved) <= 20 * 300 + 20 * 20
