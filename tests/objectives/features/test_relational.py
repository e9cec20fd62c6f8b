"""Distances and angles: a slow reference, weights, errors."""

from __future__ import annotations

import pytest
import torch

from kdlight.objectives import Relational
from tests.losses.features.reference import REFERENCE
from tests.objectives.features.samples import PAIRS, feature_inputs, randn
from tests.support.objectives import check_attributes, check_refused


@pytest.mark.parametrize(("distance", "angle"), [(1.0, 2.0), (25.0, 50.0), (1.0, 0.0), (0.0, 1.0)])
@pytest.mark.parametrize("shape", [(4,), (3, 2, 2), (3, 4)])
def test_it_is_the_weighted_sum_of_both_losses(
    shape: tuple[int, ...], distance: float, angle: float
) -> None:
    student, teacher = randn(5, *shape), randn(5, 6, seed=1)
    mask = torch.tensor([True, True, False, True, True])
    objective = Relational(PAIRS, distance=distance, angle=angle)
    loss = objective(feature_inputs(student, teacher, mask=mask))
    rows = student.mean(1) if len(shape) == 2 else student.flatten(1)
    pair = rows[mask].numpy(), teacher[mask].numpy()
    expected = distance * REFERENCE["relational_distance"](*pair)
    expected = expected + angle * REFERENCE["relational_angle"](*pair)
    assert loss.mean().item() == pytest.approx(float(expected), rel=1e-11)


def test_weights_may_change_later() -> None:
    inputs = feature_inputs(randn(5, 4), randn(5, 6, seed=1))
    make = lambda **weights: Relational(PAIRS, **weights)  # noqa: E731
    check_attributes(make, inputs, distance=3.0)
    check_attributes(make, inputs, angle=5.0)


def test_weights_are_not_negative() -> None:
    make = lambda **weights: Relational(PAIRS, **weights)  # noqa: E731
    check_refused(make, distance=-1.0)
    check_refused(make, angle=-0.5)
