"""The mean squared error of outputs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kdlight import losses


def test_a_worked_value_and_its_gradient() -> None:
    student = torch.tensor([[1.0, 2.0], [0.0, 0.0]], requires_grad=True)
    values = losses.mean_squared_error(student, torch.tensor([[1.0, 4.0], [3.0, 1.0]]))
    assert values.tolist() == [2.0, 5.0]
    assert torch.autograd.grad(values.sum(), student)[0].tolist() == [[0, -2], [-3, -1]]


def test_a_single_output_is_compared() -> None:
    values = losses.mean_squared_error(torch.tensor([[1.0]]), torch.tensor([[-2.0]]))
    assert values.tolist() == [9.0]


@pytest.mark.parametrize("lowest", [-math.inf, torch.finfo(torch.float64).min])
def test_what_both_sides_forbid_is_left_out(
    student: Tensor, teacher: Tensor, lowest: float
) -> None:
    expected = losses.mean_squared_error(student, teacher)
    outside = torch.full((2, 5, 3), lowest, dtype=torch.float64)
    wide = torch.cat([student, outside], -1).requires_grad_()
    values = losses.mean_squared_error(wide, torch.cat([teacher, outside], -1))
    torch.testing.assert_close(values, expected)
    (grad,) = torch.autograd.grad(values.sum(), wide)
    assert (grad[..., 7:] == 0).all()
    alone = losses.mean_squared_error(wide, torch.cat([teacher, 0 * outside.exp()], -1))
    assert (alone == math.inf).all()
    assert torch.autograd.grad(alone.sum(), wide)[0].isfinite().all()


def test_half_precision_is_widened() -> None:
    big = torch.full((1, 2), 3e4, dtype=torch.float16)
    assert losses.mean_squared_error(big, -big).item() == pytest.approx(3.6e9)


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="vocabularies differ"):
        losses.mean_squared_error(torch.zeros(2, 3), torch.zeros(2, 1))
