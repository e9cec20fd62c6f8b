"""Skew forward KL: a hand-worked value, its bound, and forward KL without skew."""

from __future__ import annotations

from math import log

import pytest
import torch

from kdlight.objectives import ForwardKL, LossInputs, SkewForwardKL
from tests.support.objectives import check_attributes, check_refused, one_position


def test_the_student_is_mixed_with_the_teacher() -> None:
    # the student's side is m = 0.25 p + 0.75 q = (0.425, 0.575)
    value = SkewForwardKL(skew=0.25)(one_position((0.5, 0.5), (0.2, 0.8))).mean().item()
    assert value == pytest.approx(0.2 * log(0.2 / 0.425) + 0.8 * log(0.8 / 0.575))


def test_it_is_bounded_by_the_skew() -> None:
    value = SkewForwardKL(skew=0.1)(one_position((1.0, 0.0), (0.0, 1.0))).mean().item()
    assert value == pytest.approx(-log(0.1))


def test_without_skew_it_is_forward_kl(inputs: LossInputs) -> None:
    torch.testing.assert_close(SkewForwardKL(skew=0.0)(inputs).total, ForwardKL()(inputs).total)


def test_the_skew_may_change_and_is_checked(inputs: LossInputs) -> None:
    check_attributes(SkewForwardKL, inputs, skew=0.4)
    check_refused(SkewForwardKL, skew=1.0)
