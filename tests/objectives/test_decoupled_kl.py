"""Decoupled KL: both terms by hand, forward KL as a special case, and labels."""

from __future__ import annotations

from math import log

import pytest
import torch
from torch import Tensor

from kdlight.objectives import DecoupledKL, ForwardKL, LossInputs
from tests.support.objectives import check_attributes, check_refused, one_position

P, Q = (0.6, 0.3, 0.1), (0.5, 0.2, 0.3)
TARGET = 0.6 * log(0.6 / 0.5) + 0.4 * log(0.4 / 0.5)
OTHERS = 0.75 * log(0.75 / 0.4) + 0.25 * log(0.25 / 0.6)


@pytest.mark.parametrize("weights", [(1.0, 8.0), (0.5, 0.0), (0.0, 2.0)])
def test_the_terms_have_their_weights(weights: tuple[float, float]) -> None:
    objective = DecoupledKL(target_weight=weights[0], non_target_weight=weights[1])
    value = objective(one_position(Q, P, label=0)).mean().item()
    assert value == pytest.approx(weights[0] * TARGET + weights[1] * OTHERS)


def test_forward_kl_weights_the_other_classes_by_their_mass() -> None:
    inputs = one_position(Q, P, label=0)
    decoupled = DecoupledKL(non_target_weight=1 - 0.6)(inputs)
    torch.testing.assert_close(decoupled.total, ForwardKL()(inputs).total)


def test_the_weights_may_change_and_are_checked(inputs: LossInputs) -> None:
    check_attributes(DecoupledKL, inputs, target_weight=3.0)
    check_attributes(DecoupledKL, inputs, non_target_weight=3.0)
    check_refused(DecoupledKL, target_weight=-1.0)
    check_refused(DecoupledKL, non_target_weight=float("inf"))


def test_labels_are_needed(student: Tensor, teacher: Tensor) -> None:
    with pytest.raises(ValueError, match="DecoupledKL needs labels"):
        DecoupledKL()(LossInputs(student, teacher))
