"""Weights rounded to evenly spaced values, and the gradient that passes straight through."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight.quantization import uniform, uniform_quantize
from tests.quantization.vectors import NAMES, load

UNIFORM = [name for name in NAMES if name.startswith("uniform")]


def reference(weight: Tensor, bits: int, bucket: int | None) -> Tensor:
    """One entry at a time, in Python's floats."""
    entries = weight.double().flatten().tolist()
    size = bucket or len(entries)
    steps, result = 2**bits - 1, []
    for start in range(0, len(entries), size):
        part = entries[start : start + size]
        low, width = min(part), max(part) - min(part)
        for entry in part:
            place = 0.0 if width < 1e-10 else (entry - low) / width * steps
            result.append(low + round(place) / steps * width)  # half to even
    return torch.tensor(result, dtype=torch.float64).view(weight.shape)


def test_there_are_vectors() -> None:
    assert len(UNIFORM) == 2
    assert len(NAMES) == 4


@pytest.mark.parametrize("name", UNIFORM)
def test_values_are_those_of_the_authors(name: str) -> None:
    vector, numbers = load(name)
    found = uniform_quantize(vector["weight"], bits=numbers["bits"], bucket=numbers["bucket_size"])
    torch.testing.assert_close(found, vector["expected_quantized"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("bucket", [None, 7, 16, 1000])
@pytest.mark.parametrize("shape", [(5, 13), (1,), (4, 3, 3, 2), ()])
def test_values_are_those_of_a_loop(bits: int, bucket: int | None, shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape, dtype=torch.float64)
    found = uniform_quantize(weight, bits=bits, bucket=bucket)
    torch.testing.assert_close(found, reference(weight, bits, bucket), rtol=0, atol=1e-12)


@pytest.mark.parametrize("bits", [1, 2, 3, 5])
def test_a_bucket_has_no_more_values_than_its_bits_allow(bits: int) -> None:
    weight = torch.rand(40, 512)
    rows = uniform_quantize(weight, bits=bits, bucket=512)
    assert max(len(row.unique()) for row in rows) == 2**bits
    assert torch.equal(rows.amin(1), weight.amin(1))
    torch.testing.assert_close(rows.amax(1), weight.amax(1))
    step = (weight.amax(1) - weight.amin(1)) / (2**bits - 1)
    assert ((rows - weight).abs().amax(1) <= step / 2 * (1 + 1e-5)).all()


def test_what_is_rounded_stays() -> None:
    once = uniform_quantize(torch.randn(6, 100, dtype=torch.float64), bits=3, bucket=50)
    torch.testing.assert_close(uniform_quantize(once, bits=3, bucket=50), once, rtol=0, atol=1e-14)


def test_shifts_and_scales_go_through() -> None:
    weight = torch.randn(6, 100, dtype=torch.float64)
    moved = uniform_quantize(3 * weight - 2, bits=3)
    torch.testing.assert_close(moved, 3 * uniform_quantize(weight, bits=3) - 2, rtol=0, atol=1e-12)


def test_blocks_in_the_cache_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(37, 100)
    whole = uniform_quantize(weight, bits=4, bucket=16)
    monkeypatch.setattr(uniform, "BLOCK", 40)
    assert torch.equal(uniform_quantize(weight, bits=4, bucket=16), whole)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    weight = (100 * torch.randn(5, 64)).to(dtype)
    found = uniform_quantize(weight, bits=8, bucket=64)
    assert found.dtype == dtype
    assert torch.equal(found, uniform_quantize(weight.float(), bits=8, bucket=64).to(dtype))
    # the range of a bucket is infinite in float16
    wide = torch.tensor([-60000.0, 0.0, 60000.0], dtype=torch.float16)
    assert torch.equal(
        uniform_quantize(wide, bits=1), torch.tensor([-60000, -60000, 60000]).to(wide)
    )


def test_a_constant_bucket_stays_and_an_empty_weight_is_empty() -> None:
    weight = torch.cat([torch.full((8,), 0.3), torch.randn(8)])
    assert torch.equal(uniform_quantize(weight, bits=2, bucket=8)[:8], weight[:8])
    assert uniform_quantize(torch.zeros(0, 3), bits=2).shape == (0, 3)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_weight_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="weight must be finite"):
        uniform_quantize(torch.tensor([0.0, value]), bits=2)


@pytest.mark.parametrize("arguments", [{"bits": 0}, {"bits": 2, "bucket": 0}])
def test_a_number_outside_its_range(arguments: dict[str, Any]) -> None:
    name, value = list(arguments.items())[-1]
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got {value}"):
        uniform_quantize(torch.ones(3), **arguments)


@pytest.mark.parametrize("bucket", [None, 16, 15])
def test_the_gradient_is_that_at_the_rounded_weight(bucket: int | None) -> None:
    weight = torch.randn(9, 16, dtype=torch.float64, requires_grad=True)
    before = weight.detach().clone()
    outer = torch.randn(9, 16, dtype=torch.float64)
    ((uniform_quantize(weight, bits=2, bucket=bucket) - outer) ** 3).sum().backward()
    # by hand: the gradient of a leaf that has the rounded values
    leaf = reference(before, 2, bucket).requires_grad_()
    ((leaf - outer) ** 3).sum().backward()
    torch.testing.assert_close(weight.grad, leaf.grad, rtol=0, atol=1e-12)
    assert torch.equal(weight, before)
