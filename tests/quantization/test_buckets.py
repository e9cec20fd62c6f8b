"""A flattened weight is divided into buckets, and put together again."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight.quantization.buckets import (
    as_buckets,
    bucket_ranges,
    check_bits,
    check_bucket,
    check_entries,
    from_buckets,
)


@pytest.mark.parametrize("bucket", [None, 1, 4, 5, 6, 30, 31])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_weight_comes_back_as_it_was(bucket: int | None, dtype: torch.dtype) -> None:
    weight = torch.randn(2, 3, 5).to(dtype)
    rows = as_buckets(weight, bucket)
    assert rows.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    back = from_buckets(rows, weight)
    assert back.dtype == dtype
    assert torch.equal(back, weight)


def test_the_last_bucket_is_padded_with_the_last_entry() -> None:
    rows = as_buckets(torch.arange(7.0), 3)
    assert rows.tolist() == [[0, 1, 2], [3, 4, 5], [6, 6, 6]]


def test_a_short_weight_is_one_bucket_without_padding() -> None:
    assert as_buckets(torch.arange(7.0), 8).tolist() == [list(range(7))]


def test_entries_are_in_their_logical_order() -> None:
    weight = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    assert torch.equal(as_buckets(weight, 16), weight.contiguous().view(6, 16))
    assert torch.equal(
        as_buckets(weight.transpose(0, 1), 16).flatten(),
        weight.transpose(0, 1).contiguous().flatten(),
    )


def test_a_constant_bucket_has_the_range_1() -> None:
    low, width = bucket_ranges(torch.tensor([[3.0, 3.0], [0.0, 1e-11], [0.0, 1e-9]]))
    assert low.flatten().tolist() == [3, 0, 0]
    assert width.flatten().tolist() == pytest.approx([1, 1, 1e-9])


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_entries_that_are_not_finite_are_counted_by_bucket(value: float) -> None:
    rows = torch.zeros(3, 4)
    rows[1, 2] = rows[1, 3] = value
    with pytest.raises(ValueError, match="weight must be finite, but 1 of its 3 buckets"):
        check_entries(rows)


def test_finite_entries_pass() -> None:
    check_entries(torch.full((2, 2), 3e38))
    check_entries(torch.zeros(1, 0))


@pytest.mark.parametrize(
    ("value", "error"), [(0, ValueError), (17, ValueError), (2.0, TypeError), (True, TypeError)]
)
def test_bits_are_checked(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"bits must be .*got {value}"):
        check_bits(value)


@pytest.mark.parametrize(
    ("value", "error"), [(0, ValueError), (-1, ValueError), ("all", TypeError)]
)
def test_buckets_are_checked(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"bucket must be .*got '?{value}"):
        check_bucket(value)


def test_integers_are_refused() -> None:
    with pytest.raises(TypeError, match="weight must be floating point, got torch.int64"):
        as_buckets(torch.arange(3), 2)
