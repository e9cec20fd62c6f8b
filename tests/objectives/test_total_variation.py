"""Total variation: a hand-worked value, and its bound."""

from __future__ import annotations

import pytest
import torch

from kdlight.objectives import LossInputs, TotalVariation
from tests.support.objectives import one_position, tempered


def test_it_is_half_the_sum_of_the_differences() -> None:
    value = TotalVariation()(one_position((0.5, 0.2, 0.3), (0.2, 0.6, 0.2))).mean().item()
    assert value == pytest.approx((0.3 + 0.4 + 0.1) / 2)


def test_the_temperature_divides_the_logits_of_both_sides() -> None:
    value = TotalVariation(temperature=2.0)(one_position((0.5, 0.5), (0.2, 0.8))).mean().item()
    assert value == pytest.approx(4 * (0.5 - tempered((0.2, 0.8), 2.0)[0]))


def test_no_position_exceeds_one(inputs: LossInputs) -> None:
    assert TotalVariation()(one_position((1.0, 0.0), (0.0, 1.0))).mean() == 1
    far = LossInputs(30 * inputs.student.logits(), inputs.teacher)
    values = TotalVariation().per_sample_loss(far)
    assert ((values > 0.3) & (values <= 1)).all()
    assert not torch.equal(values[:1], values[1:])
