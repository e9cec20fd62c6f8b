"""KL to a teacher with clamped probabilities."""

from __future__ import annotations

import math

import pytest
import torch

from kdlight import losses
from kdlight.losses.clipped_kl.clamped_kl import clamped_kl


def column(value: float) -> torch.Tensor:
    return torch.tensor([[value]], dtype=torch.float64)


def test_a_worked_value() -> None:
    log_p = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64).log()
    log_q = torch.full((1, 3), 1 / 3, dtype=torch.float64).log()
    values, unchanged = clamped_kl(log_p, log_q, column(0.15), column(0.5))
    target = [0.5 / 0.85, 0.2 / 0.85, 0.15 / 0.85]
    assert values.item() == pytest.approx(sum(p * math.log(3 * p) for p in target))
    assert unchanged.tolist() == [[False, True, False]]


def test_thresholds_of_0_and_1_give_forward_kl(
    student: torch.Tensor, teacher: torch.Tensor
) -> None:
    logs = teacher.log_softmax(-1), student.log_softmax(-1)
    values, unchanged = clamped_kl(*logs, column(0.0), column(1.0))
    torch.testing.assert_close(values, losses.forward_kl(student, teacher))
    assert unchanged.all()


def test_thresholds_get_the_gradient_of_the_value(
    student: torch.Tensor, teacher: torch.Tensor
) -> None:
    logs = teacher.log_softmax(-1), student.detach().log_softmax(-1)
    thresholds = column(0.01).requires_grad_(), column(0.2).requires_grad_()
    assert torch.autograd.gradcheck(lambda low, high: clamped_kl(*logs, low, high)[0], thresholds)


def test_a_token_outside_the_vocabulary_is_not_raised_to_the_lower_threshold() -> None:
    log_p = torch.tensor([[0.9, 0.1, 0.0]], dtype=torch.float64).log()
    log_q = torch.tensor([[0.5, 0.5, 0.0]], dtype=torch.float64).log()
    values, unchanged = clamped_kl(log_p, log_q, column(0.3), column(0.9))
    assert values.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert unchanged.tolist() == [[True, False, False]]
