"""The alpha-beta divergence: both KLs at its ends, and a hand-worked value between them."""

from __future__ import annotations

from math import sqrt

import pytest
import torch

from kdlight.objectives import AlphaBeta, ForwardKL, LossInputs, ReverseKL
from tests.support.objectives import check_attributes, check_refused, grad, one_position


def test_the_kls_are_its_ends(inputs: LossInputs) -> None:
    for objective, kl in (
        (AlphaBeta(alpha=1.0, beta=0.0), ForwardKL()),
        (AlphaBeta(alpha=0.0, beta=1.0), ReverseKL()),
    ):
        loss, expected = objective(inputs), kl(inputs)
        torch.testing.assert_close(loss.total, expected.total)
        torch.testing.assert_close(grad(loss, inputs), grad(expected, inputs))


def test_equal_exponents_of_a_half_give_four_times_the_gap_of_the_overlap() -> None:
    # -4 (sum sqrt(p q) - 1/2 - 1/2)
    loss = AlphaBeta(alpha=0.5, beta=0.5)(one_position((0.5, 0.5), (0.2, 0.8)))
    assert loss.mean().item() == pytest.approx(4 * (1 - sqrt(0.1) - sqrt(0.4)))


def test_the_exponents_may_change_and_are_checked(inputs: LossInputs) -> None:
    check_attributes(AlphaBeta, inputs, alpha=0.5)
    check_attributes(AlphaBeta, inputs, beta=0.1)
    check_refused(AlphaBeta, alpha=float("inf"))
    check_refused(AlphaBeta, beta=float("nan"))
