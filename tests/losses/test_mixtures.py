"""Skew KL and Jensen-Shannon divergence."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kdlight import losses
from tests.losses.test_losses import close


def test_jensen_shannon_vanishes_towards_its_ends_and_so_jumps_at_them(
    student: Tensor, teacher: Tensor
) -> None:
    small = 1e-6
    near = losses.jensen_shannon(student, teacher, beta=small)
    close(near / small, losses.forward_kl(student, teacher), 1e-3)
    near = losses.jensen_shannon(student, teacher, beta=1 - small)
    close(near / small, losses.reverse_kl(student, teacher), 1e-3)


def test_a_token_that_one_side_forbids_costs_at_most_the_log_of_the_skew() -> None:
    here = torch.tensor([0.0, -torch.inf], requires_grad=True)
    there = torch.tensor([-torch.inf, 0.0])
    for loss in (losses.skew_forward_kl, losses.skew_reverse_kl):
        value = loss(here, there, skew=0.2)
        assert value.item() == pytest.approx(-math.log(0.2))
        assert torch.autograd.grad(value, here)[0].isfinite().all()
    for beta in (0.3, 0.5):  # the entropy of the weights
        expected = -beta * math.log(beta) - (1 - beta) * math.log(1 - beta)
        assert losses.jensen_shannon(here, there, beta=beta).item() == pytest.approx(expected)


def test_jensen_shannon_exchanges_its_sides_with_the_weight(
    student: Tensor, teacher: Tensor
) -> None:
    forward = losses.jensen_shannon(student, teacher, beta=0.3)
    close(losses.jensen_shannon(teacher, student, beta=0.7), forward.detach(), 1e-12)
