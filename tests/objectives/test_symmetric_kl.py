"""Symmetric KL: the weights of both directions."""

from __future__ import annotations

import torch

from kdlight.objectives import ForwardKL, LossInputs, ReverseKL, SymmetricKL
from tests.support.objectives import check_attributes, check_refused, grad


def test_forward_kl_has_its_weight_and_reverse_kl_the_rest(inputs: LossInputs) -> None:
    loss = SymmetricKL(forward_weight=0.2)(inputs)
    forward, reverse = ForwardKL()(inputs), ReverseKL()(inputs)
    torch.testing.assert_close(loss.total, 0.2 * forward.total + 0.8 * reverse.total)
    expected = 0.2 * grad(forward, inputs) + 0.8 * grad(reverse, inputs)
    torch.testing.assert_close(grad(loss, inputs), expected)


def test_with_equal_weights_the_sides_may_be_exchanged(inputs: LossInputs) -> None:
    assert inputs.teacher is not None
    exchanged = LossInputs(inputs.teacher, inputs.student, mask=inputs.mask)
    torch.testing.assert_close(SymmetricKL()(inputs).total, SymmetricKL()(exchanged).total)


def test_the_weight_may_change_and_is_checked(inputs: LossInputs) -> None:
    check_attributes(SymmetricKL, inputs, forward_weight=0.2)
    check_refused(SymmetricKL, forward_weight=-0.1)
