"""The total variation distance."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kdlight import losses


def test_a_worked_value() -> None:
    q, p = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.1, 0.3, 0.6])
    assert losses.total_variation(q.log(), p.log()).item() == pytest.approx(0.4)
    halves = losses.total_variation((2 * q.log()), (2 * p.log()), temperature=2.0)
    assert halves.item() == pytest.approx(0.4)


def test_it_is_symmetric_and_1_where_the_supports_are_disjoint(
    student: Tensor, teacher: Tensor
) -> None:
    forward, backward = (
        losses.total_variation(student, teacher),
        losses.total_variation(teacher, student),
    )
    torch.testing.assert_close(forward, backward, rtol=1e-12, atol=0)
    left = torch.tensor([0.0, 1.0, -math.inf, -math.inf], requires_grad=True)
    value = losses.total_variation(left, torch.tensor([-math.inf, -math.inf, 3.0, 0.0]))
    assert value.item() == pytest.approx(1.0)
    (grad,) = torch.autograd.grad(value, left)
    torch.testing.assert_close(grad, torch.zeros(4))  # the highest value has no gradient


def test_one_token_more_likely_than_under_the_teacher_has_the_gradient_of_its_probability() -> None:
    student = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64, requires_grad=True)
    value = losses.total_variation(student, torch.zeros(3, dtype=torch.float64))
    (grad,) = torch.autograd.grad(value, student)
    q = student.detach().softmax(-1)  # the value is q_0 - 1/3
    expected = torch.stack([q[0] * (1 - q[0]), -q[0] * q[1], -q[0] * q[2]])
    torch.testing.assert_close(grad, expected, rtol=1e-12, atol=0)
