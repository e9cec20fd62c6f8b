"""Weights at the nearest of given points, and the gradient of the points."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kdlight.quantization import initial_points, nearest_points, uniform_quantize
from kdlight.quantization.buckets import as_buckets, bucket_ranges
from tests.quantization.vectors import load

VECTOR = "points_4pts_bucket16"


def by_distance(weight: Tensor, points: Tensor, bucket: int | None) -> tuple[Tensor, Tensor]:
    """Compare every entry with every point, differentiably in the points."""
    rows = as_buckets(weight, bucket)
    low, width = bucket_ranges(rows)
    index = ((rows - low) / width).unsqueeze(-1).sub(points.detach()).abs().argmin(-1)
    values = points[index] * width + low
    count, shape = weight.numel(), weight.shape
    return values.flatten()[:count].view(shape), index.flatten()[:count].view(shape)


def test_points_values_indices_and_gradient_are_those_of_the_authors() -> None:
    vector, numbers = load(VECTOR)
    bucket, weight = numbers["bucket_size"], vector["weight"]
    points = initial_points(weight, numbers["num_points"], bucket=bucket)
    close: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(points, vector["expected_init_points"], **close)
    points.requires_grad_()
    found = nearest_points(weight, points, bucket=bucket)
    torch.testing.assert_close(found.values, vector["expected_quantized"], **close)
    assert torch.equal(found.index.long(), vector["expected_index"])
    found.values.backward(vector["grad_output"])
    torch.testing.assert_close(points.grad, vector["expected_grad"], **close)


@pytest.mark.parametrize("bucket", [None, 7, 16, 1000])
@pytest.mark.parametrize("count", [1, 2, 5, 16])
def test_they_are_those_of_a_comparison_with_every_point(bucket: int | None, count: int) -> None:
    weight = torch.randn(9, 13, dtype=torch.float64)
    points = torch.rand(count, dtype=torch.float64).sort().values.requires_grad_()
    outer = torch.randn(9, 13, dtype=torch.float64)
    found = nearest_points(weight, points, bucket=bucket)
    found.values.backward(outer)
    assert points.grad is not None
    gradient, points.grad = points.grad, None
    values, index = by_distance(weight, points, bucket)
    values.backward(outer)
    assert torch.equal(found.index.long(), index)
    torch.testing.assert_close(found.values, values, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradient, points.grad, rtol=0, atol=1e-12)


def test_evenly_spaced_points_round_as_uniform_quantization_does() -> None:
    weight = torch.randn(8, 32, dtype=torch.float64)
    points = torch.linspace(0, 1, 8, dtype=torch.float64)
    found = nearest_points(weight, points, bucket=32).values
    torch.testing.assert_close(
        found, uniform_quantize(weight, bits=3, bucket=32), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("count", [1, 2, 4, 256])
@pytest.mark.parametrize("bucket", [None, 16])
def test_initial_points_are_percentiles(count: int, bucket: int | None) -> None:
    weight = torch.randn(7, 9, dtype=torch.float64)
    rows = as_buckets(weight, bucket)
    low, width = bucket_ranges(rows)
    scaled = ((rows - low) / width).flatten()[: weight.numel()]
    expected = np.percentile(scaled.numpy(), np.linspace(0, 100, count))
    found = initial_points(weight, count, bucket=bucket)
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=0, atol=1e-14)


def test_the_weight_is_a_constant() -> None:
    weight = torch.randn(4, 4, requires_grad=True)
    points = torch.linspace(0, 1, 4, requires_grad=True)
    nearest_points(weight, points).values.sum().backward()
    assert weight.grad is None


def test_a_constant_weight_and_a_single_entry() -> None:
    points = torch.tensor([0.0, 1.0])
    assert nearest_points(torch.full((3,), 0.7), points).values.tolist() == pytest.approx([0.7] * 3)
    assert initial_points(torch.tensor([0.7]), 4).tolist() == [0.0] * 4


def test_an_empty_weight() -> None:
    found = nearest_points(torch.zeros(0, 3), torch.tensor([0.5]))
    assert found.values.shape == found.index.shape == (0, 3)
    with pytest.raises(ValueError, match=re.escape("weight must have entries, got the shape (0,)")):
        initial_points(torch.zeros(0), 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    weight = torch.randn(8, 64).to(dtype)
    points = initial_points(weight, 8, bucket=64)
    assert points.dtype == torch.float32
    assert torch.equal(points, initial_points(weight.float(), 8, bucket=64))
    found = nearest_points(weight, points.to(dtype), bucket=64).values
    assert found.dtype == dtype
    wide = nearest_points(weight.float(), points.to(dtype).float(), bucket=64).values
    assert torch.equal(found, wide.to(dtype))


def test_gradients_of_many_entries_are_added_up_in_float64() -> None:
    weight, points = torch.rand(2**20), torch.tensor([0.0, 1.0], requires_grad=True)
    outer = torch.rand(2**20)
    found = nearest_points(weight, points, bucket=None)
    found.values.backward(outer)
    width = (weight.max() - weight.min()).double()
    expected = [(outer.double() * width)[found.index == each].sum().item() for each in (0, 1)]
    assert points.grad is not None
    assert points.grad.tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("points", "error", "words"),
    [
        (torch.tensor([1.0, 0.0]), ValueError, "points must be in increasing order"),
        (torch.tensor([]), ValueError, "points must be a row of at least one number"),
        (torch.zeros(2, 2), ValueError, "points must be a row"),
        (torch.tensor([0.0, torch.nan]), ValueError, "points must be finite"),
        (torch.tensor([0, 1]), TypeError, "points must be floating point, got torch.int64"),
    ],
)
def test_points_are_checked(points: Tensor, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        nearest_points(torch.ones(3), points)


def test_other_arguments_are_checked() -> None:
    points = torch.tensor([0.0, 1.0])
    with pytest.raises(ValueError, match="bucket must be at least 1, got 0"):
        nearest_points(torch.ones(3), points, bucket=0)
    with pytest.raises(ValueError, match="weight must be finite"):
        nearest_points(torch.tensor([torch.nan]), points)
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        initial_points(torch.ones(3), 0)
    with pytest.raises(ValueError, match="weight must be finite"):
        initial_points(torch.tensor([torch.inf]), 1)
