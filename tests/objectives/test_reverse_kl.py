"""Reverse KL: a hand-worked value, its temperature, and tokens of probability 0."""

from __future__ import annotations

from math import inf, log

import pytest
import torch

from kdlight.objectives import ForwardKL, LossInputs, ReverseKL
from tests.support.objectives import one_position, tempered

P, Q = (0.2, 0.8), (0.5, 0.5)


def test_the_student_weights_the_logarithms() -> None:
    value = ReverseKL()(one_position(Q, P)).mean().item()
    assert value == pytest.approx(0.5 * log(0.5 / 0.2) + 0.5 * log(0.5 / 0.8))


def test_the_temperature_divides_the_logits_of_both_sides() -> None:
    p = tempered(P, 2.0)
    value = ReverseKL(temperature=2.0)(one_position(Q, P)).mean().item()
    assert value == pytest.approx(4 * sum(0.5 * log(0.5 / x) for x in p))


def test_it_is_forward_kl_with_the_sides_exchanged(inputs: LossInputs) -> None:
    assert inputs.teacher is not None
    exchanged = LossInputs(inputs.teacher, inputs.student, mask=inputs.mask)
    torch.testing.assert_close(ReverseKL()(inputs).total, ForwardKL()(exchanged).total)


def test_the_student_may_ignore_modes_of_the_teacher() -> None:
    assert ReverseKL()(one_position((1.0, 0.0), (0.5, 0.5))).mean().item() == pytest.approx(log(2))
    assert ReverseKL()(one_position((0.5, 0.5), (1.0, 0.0))).mean() == inf
