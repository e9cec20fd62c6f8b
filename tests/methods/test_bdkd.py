"""BD-KD: the rule of its weights, and its invariants."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kdlight import losses
from kdlight.losses.balanced import balance, confidence_gap
from tests.methods.test_conformance import entropy


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


def test_a_confident_student_is_flattened_and_any_other_is_sharpened(
    student: Tensor, teacher: Tensor
) -> None:
    forward, reverse = losses.forward_kl(student, teacher), losses.reverse_kl(student, teacher)
    confident = entropy(teacher) > entropy(student)
    assert 0 < confident.sum() < confident.numel()
    expected = torch.where(confident, 3 * forward + reverse, forward + 3 * reverse)
    close(losses.balanced_kl(student, teacher, high=3.0), expected)
    flipped = torch.where(confident, forward + 3 * reverse, 3 * forward + reverse)
    close(losses.balanced_kl(student, teacher, high=1.0, low=3.0), flipped)


def test_equal_weights_are_jeffreys(student: Tensor, teacher: Tensor) -> None:
    forward, reverse = losses.forward_kl(student, teacher), losses.reverse_kl(student, teacher)
    close(losses.balanced_kl(student, teacher, high=1.0), forward + reverse)
    soft = losses.balanced_kl(student, teacher, high=1.0, weighting="soft")
    close(soft, forward + reverse)
    halved = losses.balanced_kl(student, teacher, high=1.0, normalise=True)
    close(halved, (forward + reverse) / 2)


def test_one_and_zero_pick_a_direction(student: Tensor, teacher: Tensor) -> None:
    forward, reverse = losses.forward_kl(student, teacher), losses.reverse_kl(student, teacher)
    expected = torch.where(entropy(teacher) > entropy(student), forward, reverse)
    close(losses.balanced_kl(student, teacher, high=1.0, low=0.0), expected)


def test_a_tie_gives_both_terms_the_low_weight() -> None:
    gap = torch.tensor([-0.2, -0.1, 0.0, 0.1, 0.2])
    forward, reverse = balance(gap, high=5.0, low=1.0, tie_tol=0.1)
    assert forward.tolist() == [1, 1, 1, 1, 5]
    assert reverse.tolist() == [5, 1, 1, 1, 1]
    one, other = balance(torch.zeros(1), low=0.0, normalise=True)
    assert one == other == 0.5


def test_soft_weights_become_hard_ones_but_at_ties() -> None:
    gap = torch.tensor([-1.0, -0.3, 0.2, 1.0], dtype=torch.float64)
    soft, hard = balance(gap, weighting="soft", kappa=1e4), balance(gap)
    for one, other in zip(soft, hard, strict=True):
        close(one, other)
    forward, reverse = balance(torch.zeros(1), weighting="soft")
    assert forward == reverse == 1.5
    middle = balance(gap, weighting="soft", normalise=True)
    close(middle[0] + middle[1], torch.ones_like(gap))


def test_confidence_is_compared_at_its_own_temperature_and_by_its_own_measure() -> None:
    # two of four tokens are likely, against one that is more likely and three that are not
    student = torch.tensor([0.499, 0.499, 0.001, 0.001], dtype=torch.float64).log()
    teacher = torch.tensor([0.55, 0.15, 0.15, 0.15], dtype=torch.float64).log()
    top = confidence_gap(student, teacher, confidence="max_prob")
    close(top, torch.tensor(0.499 - 0.55, dtype=torch.float64))
    hot = confidence_gap(student, teacher, temperature=9.0)
    close(hot, entropy(teacher / 9) - entropy(student / 9))
    assert confidence_gap(student, teacher) > 0 > top

    def weigh(forward: float, reverse: float, temperature: float) -> Tensor:
        halves = losses.forward_kl, losses.reverse_kl
        values = [half(student, teacher, temperature=temperature) for half in halves]
        return forward * values[0] + reverse * values[1]

    close(losses.balanced_kl(student, teacher), weigh(2, 1, 1.0))
    close(losses.balanced_kl(student, teacher, confidence="max_prob"), weigh(1, 2, 1.0))
    cold: dict[str, Any] = {
        "confidence": "max_prob",
        "entropy_temperature": 0.1,
    }  # where both tokens of 0.499 have a half
    sure: dict[str, Any] = {
        "confidence": "max_prob",
        "entropy_temperature": 100.0,
    }  # where all tokens are nearly equal
    close(losses.balanced_kl(student, teacher, **cold), weigh(1, 2, 1.0))
    close(losses.balanced_kl(student, teacher, **sure, temperature=2.0), weigh(2, 1, 2.0))


def test_weights_are_constants_unless_they_take_a_gradient(
    student: Tensor, teacher: Tensor
) -> None:
    values = losses.balanced_kl(student, teacher, weighting="soft")
    gap = confidence_gap(student, teacher).detach()
    forward, reverse = balance(gap, weighting="soft")
    expected = forward * losses.forward_kl(student, teacher)
    expected = expected + reverse * losses.reverse_kl(student, teacher)
    (constant,) = torch.autograd.grad(values.sum(), student)
    close(constant, torch.autograd.grad(expected.sum(), student)[0])
    moving = losses.balanced_kl(student, teacher, weighting="soft", detach_weights=False)
    close(moving, values)
    assert (torch.autograd.grad(moving.sum(), student)[0] - constant).abs().max() > 1e-2
