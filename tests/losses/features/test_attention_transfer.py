"""Attention maps of features."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from kdlight.losses.features.attention_transfer import attention_transfer


def test_the_mean_is_the_formula_in_tensors() -> None:
    student, teacher = torch.randn(3, 4, 5, 6).double(), torch.randn(3, 2, 5, 6).double()
    maps = [functional.normalize(x.square().mean(1).flatten(1)) for x in (student, teacher)]
    expected = (maps[0] - maps[1]).square().mean()
    torch.testing.assert_close(attention_transfer(student, teacher).mean(), expected)


def test_the_order_and_the_sign_of_channels_do_not_count() -> None:
    student, teacher = torch.randn(2, 4, 5).double(), torch.randn(2, 3, 5).double()
    expected = attention_transfer(student, teacher, p=3)
    torch.testing.assert_close(attention_transfer(-student.flip(1), teacher, p=3), expected)


@pytest.mark.parametrize(
    ("student", "teacher", "smaller"),
    [
        ((2, 3, 8), (2, 4, 4), (4,)),
        ((2, 3, 4, 6), (2, 4, 8, 3), (4, 3)),  # each side is larger on one axis
        ((2, 3, 4, 7, 2), (2, 4, 2, 7, 3), (2, 7, 2)),
    ],
)
def test_the_larger_map_is_pooled(student: Any, teacher: Any, smaller: Any) -> None:
    pool: Any = {
        1: functional.adaptive_avg_pool1d,
        2: functional.adaptive_avg_pool2d,
        3: functional.adaptive_avg_pool3d,
    }[len(smaller)]
    s = torch.randn(student, dtype=torch.float64, requires_grad=True)
    t = torch.randn(teacher, dtype=torch.float64)
    value = attention_transfer(s, t)
    assert torch.equal(value, attention_transfer(pool(s, smaller), pool(t, smaller)))
    assert torch.autograd.gradcheck(lambda x: attention_transfer(x, t), s)


def test_features_of_other_sides_are_not_pooled_together() -> None:
    """The average is of the features, so that opposite ones cancel before the power is taken."""
    student = torch.tensor([[[1.0, -1.0, 2.0, 2.0]]])
    teacher = torch.tensor([[[0.0, 3.0]]])
    assert attention_transfer(student, teacher).tolist() == [0.0]


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
def test_zeros_have_finite_slopes(p: float) -> None:
    student = torch.zeros(2, 3, 4)
    student[0, 0, 0] = 1.0
    student.requires_grad_()
    values = attention_transfer(student, torch.randn(2, 3, 4), p=p)
    (slope,) = torch.autograd.grad(values.sum(), student)
    assert slope.isfinite().all()
    assert (slope[1] == 0).all()


@pytest.mark.parametrize("p", [0.5, float("nan"), float("inf")])
def test_the_exponent_is_checked(p: float) -> None:
    with pytest.raises(ValueError, match="p must be"):
        attention_transfer(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), p=p)


def test_axes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"number of axes, got .*\(2, 3, 4\) and \(2, 3, 4, 4\)"):
        attention_transfer(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4, 4))
    with pytest.raises(ValueError, match="one to three axes of positions"):
        attention_transfer(torch.zeros(1, 1, 2, 2, 2, 2), torch.zeros(1, 1, 2, 2, 2, 3))
    same = torch.randn(1, 1, 2, 2, 2, 2)
    assert attention_transfer(same, same).tolist() == [0.0]
