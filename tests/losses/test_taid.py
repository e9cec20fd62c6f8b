"""TAID: KL to a target between student and teacher."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight import losses
from tests.losses.test_loss_edges import all_close, each_type, evaluate, logits, put
from tests.losses.test_losses import close, leaf


def test_taid_mixes_logits_and_not_probabilities() -> None:
    student = torch.tensor([0.0, 0.0], dtype=torch.float64)
    teacher = torch.tensor([0.0, 4.0], dtype=torch.float64)
    target = torch.tensor([0.0, 2.0], dtype=torch.float64)
    close(losses.taid(student, teacher, t=0.5), losses.forward_kl(student, target), 1e-12)


def test_taid_starts_out_like_reverse_kl(student: Tensor, teacher: Tensor) -> None:
    def slope(loss: Tensor, logits: Tensor) -> Tensor:
        return torch.autograd.grad(loss.sum(), logits)[0]

    student, t = leaf(student), 1e-5
    expected = slope(losses.reverse_kl(student, teacher), student)
    near = slope(losses.taid(student, teacher, t=t), student) / t
    assert (near - expected).norm() < 1e-3 * expected.norm()


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_taid_takes_its_position_as_a_tensor_too(
    student: Tensor, teacher: Tensor, t: float
) -> None:
    as_float = evaluate("taid", leaf(student), leaf(teacher), t=t)
    as_tensor = evaluate(
        "taid", leaf(student), leaf(teacher), t=torch.tensor(t, dtype=torch.float64)
    )
    for actual, expected in zip(as_tensor, as_float, strict=True):
        assert torch.equal(actual, expected)


def test_a_forbidden_column_leaves_the_target_of_taid() -> None:
    student, teacher = logits()
    without = put(teacher, -math.inf, 0)
    target = put(0.6 * student + 0.4 * teacher, -math.inf, 0)
    expected = evaluate("forward_kl", student, target)[:2]
    all_close(evaluate("taid", student, without, t=0.4)[:2], expected, 1e-12)
    barred = put(student, -math.inf, 0)
    expected = evaluate("forward_kl", barred, target)[:2]
    all_close(evaluate("taid", barred, teacher, t=0.4)[:2], expected, 1e-12)


@each_type
@pytest.mark.parametrize("t", [0.0, torch.tensor(0.0)], ids=["float", "tensor"])
def test_taid_at_its_start_is_nothing_whatever_the_columns(dtype: torch.dtype, t: Any) -> None:
    student, teacher = logits(dtype)
    for both in (
        (put(student, -math.inf, 0), teacher),
        (student, put(teacher, -math.inf, 0)),
        (put(student, -math.inf, 1), put(teacher, -math.inf, 1)),
        (student, put(teacher, torch.finfo(dtype).min, 0)),
    ):
        values, slope, _ = evaluate("taid", *both, t=t)
        assert torch.equal(values, torch.zeros_like(values))
        assert torch.equal(slope, torch.zeros_like(slope))


@pytest.mark.parametrize("t", [1.0, torch.tensor(1.0)], ids=["float", "tensor"])
@pytest.mark.parametrize("side", [0, 1])
def test_taid_at_its_end_is_forward_kl_whatever_the_columns(t: Any, side: int) -> None:
    both = list(logits())
    both[side] = put(both[side], -math.inf, 0)
    all_close(evaluate("taid", *both, t=t)[:2], evaluate("forward_kl", *both)[:2], 1e-12)
