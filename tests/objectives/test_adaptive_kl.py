"""Adaptive KL: the head, and the weights of both directions."""

from __future__ import annotations

from math import log

import pytest

from kdlight.objectives import AdaptiveKL, LossInputs
from tests.support.objectives import check_attributes, check_refused, one_position

P, Q = (0.6, 0.3, 0.1), (0.2, 0.5, 0.3)
FORWARD = 0.6 * log(0.6 / 0.2) + 0.3 * log(0.3 / 0.5) + 0.1 * log(0.1 / 0.3)
REVERSE = 0.2 * log(0.2 / 0.6) + 0.5 * log(0.5 / 0.3) + 0.3 * log(0.3 / 0.1)


@pytest.mark.parametrize(
    ("head_mass", "share"),
    [(0.5, 0.4 / 0.8), (0.95, 0.6 / 0.8), (1.0, 1.0)],  # the head has 1, 2 or all tokens
)
def test_each_direction_has_the_share_of_the_gap(head_mass: float, share: float) -> None:
    value = AdaptiveKL(head_mass=head_mass)(one_position(Q, P)).mean().item()
    assert value == pytest.approx(share * FORWARD + (1 - share) * REVERSE)


def test_the_head_mass_may_change_and_is_checked(inputs: LossInputs) -> None:
    check_attributes(AdaptiveKL, inputs, head_mass=0.1)
    check_refused(AdaptiveKL, head_mass=2.0)
