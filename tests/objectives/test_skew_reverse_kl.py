"""Skew reverse KL: a hand-worked value, its bound, and reverse KL without skew."""

from __future__ import annotations

from math import log

import pytest
import torch

from kdlight.objectives import LossInputs, ReverseKL, SkewReverseKL
from tests.support.objectives import check_attributes, check_refused, one_position


def test_the_teacher_is_mixed_with_the_student() -> None:
    # the teacher's side is m = 0.75 p + 0.25 q = (0.275, 0.725)
    value = SkewReverseKL(skew=0.25)(one_position((0.5, 0.5), (0.2, 0.8))).mean().item()
    assert value == pytest.approx(0.5 * log(0.5 / 0.275) + 0.5 * log(0.5 / 0.725))


def test_it_is_bounded_by_the_skew() -> None:
    value = SkewReverseKL(skew=0.1)(one_position((1.0, 0.0), (0.0, 1.0))).mean().item()
    assert value == pytest.approx(-log(0.1))


def test_without_skew_it_is_reverse_kl(inputs: LossInputs) -> None:
    torch.testing.assert_close(SkewReverseKL(skew=0.0)(inputs).total, ReverseKL()(inputs).total)


def test_the_skew_may_change_and_is_checked(inputs: LossInputs) -> None:
    check_attributes(SkewReverseKL, inputs, skew=0.4)
    check_refused(SkewReverseKL, skew=-0.1)
