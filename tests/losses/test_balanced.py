"""Balanced KL: confidence, the weights that follow from it, and the loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight import losses
from kdlight.losses.balanced import balance, confidence_gap

GAPS = torch.tensor([-0.5, 0.0, 0.5])


def test_the_direction_that_closes_the_gap_weighs_more() -> None:
    sharp, flat = torch.tensor([0.0, 3.0]).double(), torch.tensor([0.0, 1.0]).double()
    for student, teacher, forward, reverse in (
        (sharp, flat, 3.0, 0.5),
        (flat, sharp, 0.5, 3.0),
        (flat, -flat, 0.5, 0.5),  # as confident, of the other class
    ):
        expected = forward * losses.forward_kl(student, teacher) + reverse * losses.reverse_kl(
            student, teacher
        )
        torch.testing.assert_close(
            losses.balanced_kl(student, teacher, high=3.0, low=0.5, tie_tol=1e-12), expected
        )


def test_the_gap_is_one_of_entropies_or_of_highest_probabilities(
    student: Tensor, teacher: Tensor
) -> None:
    q, p = student.softmax(-1), teacher.softmax(-1)
    entropies = (q * q.log()).sum(-1) - (p * p.log()).sum(-1)
    torch.testing.assert_close(confidence_gap(student, teacher), entropies)
    highest = q.amax(-1) - p.amax(-1)
    torch.testing.assert_close(confidence_gap(student, teacher, confidence="max_prob"), highest)
    sure = torch.tensor([0.0, -torch.inf])  # an entropy of 0, and not NaN
    assert confidence_gap(sure, torch.zeros(2)).item() == pytest.approx(torch.tensor(2.0).log())


def test_soft_weights_are_between_the_hard_ones_and_reach_them() -> None:
    hard, steep = balance(GAPS), balance(GAPS, weighting="soft", kappa=1e3)
    forward, reverse = balance(GAPS, weighting="soft")
    torch.testing.assert_close(forward, 1 + (4 * GAPS).sigmoid())
    torch.testing.assert_close(forward + reverse, torch.full((3,), 3.0))
    for one, other in zip(steep, hard, strict=True):
        torch.testing.assert_close(one[[0, 2]], other[[0, 2]])
    assert steep[0][1] == 1.5  # a tie: halfway


def test_normalised_weights_sum_to_1_also_at_a_tie_of_zeros() -> None:
    forward, reverse = balance(GAPS, low=0.0, normalise=True)
    assert forward.tolist() == [0.0, 0.5, 1.0]
    assert reverse.tolist() == [1.0, 0.5, 0.0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"high": -1.0}, "high must be in .* got -1.0"),
        ({"low": float("inf")}, "low must be in .* got inf"),
        ({"kappa": -4.0}, "kappa must be in .* got -4.0"),
        ({"tie_tol": float("nan")}, "tie_tol must be in .* got nan"),
        ({"weighting": "both"}, "weighting must be one of 'hard', 'soft', got 'both'"),
        ({"confidence": "gini"}, "confidence must be one of .* got 'gini'"),
    ],
)
def test_a_wrong_argument_is_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        losses.balanced_kl(torch.zeros(1, 2), torch.zeros(1, 2), **wrong)
