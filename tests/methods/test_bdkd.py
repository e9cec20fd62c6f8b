"""BD-KD: its rule, its invariants, and what it decides for whole sequences."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight import Projected, losses
from kdlight.losses.balanced import balance, confidence_gap
from kdlight.objectives import (
    BDKD,
    CrossEntropy,
    ForwardKL,
    Loss,
    LossInputs,
    Objective,
    ReverseKL,
    Weighted,
)
from kdlight.reduce import Chunking
from tests.methods.test_conformance import entropy


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


def slope(loss: Loss, student: Tensor) -> Tensor:
    return torch.autograd.grad(loss.total, student, retain_graph=True)[0]


# ---- the rule


def test_a_student_that_is_too_sure_is_flattened_and_one_that_is_not_is_sharpened(
    student: Tensor, teacher: Tensor
) -> None:
    forward, reverse = losses.forward_kl(student, teacher), losses.reverse_kl(student, teacher)
    surer = entropy(teacher) > entropy(student)
    assert 0 < surer.sum() < surer.numel()
    expected = torch.where(surer, 3 * forward + reverse, forward + 3 * reverse)
    close(losses.balanced_kl(student, teacher, high=3.0), expected)
    flipped = torch.where(surer, forward + 3 * reverse, 3 * forward + reverse)
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


def test_a_tie_gives_both_halves_the_low_weight() -> None:
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
    # two likely tokens of four, against one that is a little likelier and three that are not
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
    }  # at which 0.499 is one of two
    sure: dict[str, Any] = {
        "confidence": "max_prob",
        "entropy_temperature": 100.0,
    }  # and here all are alike
    close(losses.balanced_kl(student, teacher, **cold), weigh(1, 2, 1.0))
    close(losses.balanced_kl(student, teacher, **sure, temperature=2.0), weigh(2, 1, 2.0))


def test_weights_are_constants_unless_one_insists(student: Tensor, teacher: Tensor) -> None:
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


# ---- the objective


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"high": -1.0}, "high must be .* got -1"),
        ({"low": float("inf")}, "low must be .* got inf"),
        ({"kappa": float("nan")}, "kappa must be .* got nan"),
        ({"tie_tol": -0.1}, "tie_tol must be .* got -0.1"),
        ({"weighting": "firm"}, "weighting must be 'hard' or 'soft', got 'firm'"),
        ({"confidence": "margin"}, "confidence must be 'entropy' or 'max_prob', got 'margin'"),
        ({"entropy_temperature": 0.0}, "entropy_temperature must be above 0 .* got 0"),
        ({"granularity": "batch"}, "'token', 'sample' or 'sequence', got 'batch'"),
        ({"granularity": "sequence", "detach_weights": False}, "take no gradient; use"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BDKD(**options)


SOFT = {"weighting": "soft"}
MOVES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"high": 3.0}),
    ({}, {"low": 0.5}),
    ({}, {"normalise": True}),
    ({}, {"tie_tol": 9.0}),
    ({}, {"weighting": "soft"}),
    (SOFT, {"kappa": 8.0}),
    (SOFT, {"confidence": "max_prob"}),
    (SOFT, {"entropy_temperature": 0.1}),
    (SOFT, {"temperature": 2.0}),
    ({"temperature": 2.0}, {"temperature_squared": False}),
]


@pytest.mark.parametrize("granularity", ["token", "sequence"])
@pytest.mark.parametrize(("options", "moved"), MOVES, ids=str)
def test_every_option_reaches_the_loss_and_may_move(
    options: dict[str, Any],
    moved: dict[str, Any],
    granularity: Any,
    student: Tensor,
    teacher: Tensor,
) -> None:
    step, options = LossInputs(student, teacher), {**options, "granularity": granularity}
    objective, given = BDKD(**options), BDKD(**{**options, **moved})
    before, after = objective(step).total.item(), given(step).total.item()
    for name, value in moved.items():
        setattr(objective, name, value)
    assert objective(step).total.item() == after
    assert abs(before - after) > 1e-6


def test_weights_that_follow_no_gap_are_those_of_a_sum(student: Tensor, teacher: Tensor) -> None:
    step = LossInputs(student, teacher)
    for granularity in ("token", "sequence"):
        flat = BDKD(weighting="soft", kappa=0.0, granularity=granularity)
        close(flat(step).total, 1.5 * (ForwardKL()(step).total + ReverseKL()(step).total))


def test_networks_of_equal_logits_do_not_move_each_other(student: Tensor) -> None:
    for learner, peer in ((BDKD(), student.detach()), (ForwardKL(), student.detach())):
        loss = learner(LossInputs(student, peer))
        assert loss.total.abs() < 1e-14
        assert slope(loss, student).abs().max() < 1e-14


# ---- one decision a sequence


def by_sequence(student: Tensor, teacher: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """The sum, sequence by sequence: the mean gap of its positions decides for all of them."""
    sums = []
    for z_s, z_t, kept in zip(student, teacher, mask, strict=True):
        z_s, z_t = z_s[kept] / temperature, z_t[kept] / temperature
        gap = (entropy(z_t) - entropy(z_s)).mean()
        forward = losses.forward_kl(z_s, z_t).sum() * (2 if gap > 0 else 1)
        sums.append(forward + losses.reverse_kl(z_s, z_t).sum() * (2 if gap < 0 else 1))
    return temperature**2 * torch.stack(sums).sum()


def test_a_sequence_is_decided_by_its_mean_gap(generator: torch.Generator) -> None:
    student = torch.randn(6, 5, 7, dtype=torch.float64, generator=generator).requires_grad_()
    teacher = 1.2 * torch.randn(6, 5, 7, dtype=torch.float64, generator=generator)
    mask = torch.rand(6, 5, generator=generator) < 0.6
    mask[4] = False
    loss = BDKD(granularity="sequence", temperature=2.0)(LossInputs(student, teacher, mask=mask))
    expected = by_sequence(student, teacher, mask, 2.0)
    close(loss.total, expected)
    close(slope(loss, student), torch.autograd.grad(expected, student)[0])
    assert loss.count == mask.sum()
    by_token = BDKD(temperature=2.0)(LossInputs(student, teacher, mask=mask))
    assert abs(by_token.total - expected) > 1e-2


def test_a_sequence_of_one_is_a_token(student: Tensor, teacher: Tensor) -> None:
    one = LossInputs(student.flatten(0, 1)[:, None], teacher.flatten(0, 1)[:, None])
    close(BDKD(granularity="sequence")(one).total, BDKD()(one).total)
    close(BDKD(granularity="sample")(one).total, BDKD()(one).total)


@pytest.mark.parametrize("granularity", ["token", "sequence"])
def test_chunks_change_nothing(granularity: Any, generator: torch.Generator) -> None:
    heads = [torch.nn.Linear(4, 9).double() for _ in range(2)]
    hidden = torch.randn(2, 3, 8, 4, dtype=torch.float64, generator=generator).requires_grad_()
    mask = torch.rand(3, 8, generator=generator) < 0.7
    results = []
    for chunked in (False, Chunking(tokens=6, block=2)):
        step = LossInputs(
            Projected(hidden[0], heads[0]),
            Projected(hidden[1].detach(), heads[1].requires_grad_(False)),
            mask=mask,
            chunked=chunked,
        )
        loss = BDKD(granularity=granularity)(step)
        leaves = (hidden, heads[0].weight)
        results.append([loss.total, *torch.autograd.grad(loss.total, leaves)])
    for one, other in zip(*results, strict=True):
        close(one, other)


def test_rows_one_by_one_cannot_be_decided_together(student: Tensor, teacher: Tensor) -> None:
    with pytest.raises(ValueError, match="evaluated one by one; use granularity='token'"):
        BDKD(granularity="sequence").per_token_loss(student, teacher, None)


def test_sequences_can_be_mixed_with_tokens(generator: torch.Generator) -> None:
    student, teacher = torch.randn(2, 2, 5, 7, generator=generator, dtype=torch.float64).unbind()
    step = LossInputs(student, teacher, torch.randint(7, (2, 5), generator=generator))
    each: dict[str, Objective] = {"bdkd": BDKD(granularity="sequence"), "ce": CrossEntropy()}
    mixed = Weighted(each, weights={"ce": 0.5})(step)
    apart = [objective(step).total for objective in each.values()]
    close(mixed.total, apart[0] + 0.5 * apart[1])
    assert mixed.count == 10
