"""BD-KD as an objective: its options, and the weights of whole sequences."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight import Projected, losses
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


def student_grad(loss: Loss, student: Tensor) -> Tensor:
    return torch.autograd.grad(loss.total, student, retain_graph=True)[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"high": -1.0}, "high must be .* got -1"),
        ({"low": float("inf")}, "low must be .* got inf"),
        ({"kappa": float("nan")}, "kappa must be .* got nan"),
        ({"tie_tol": -0.1}, "tie_tol must be .* got -0.1"),
        ({"weighting": "firm"}, "weighting must be one of 'hard', 'soft', got 'firm'"),
        ({"confidence": "margin"}, "confidence must be one of 'entropy', 'max_prob', got 'margin'"),
        ({"entropy_temperature": 0.0}, "entropy_temperature must be above 0 .* got 0"),
        ({"granularity": "batch"}, "granularity must be one of 'token', .*, got 'batch'"),
        ({"granularity": "sequence", "detach_weights": False}, "take no gradient; use"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BDKD(**options)


SOFT = {"weighting": "soft"}
CHANGES: list[tuple[dict[str, Any], dict[str, Any]]] = [
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
@pytest.mark.parametrize(("options", "changed"), CHANGES, ids=str)
def test_every_option_reaches_the_loss_and_may_change(
    options: dict[str, Any],
    changed: dict[str, Any],
    granularity: Any,
    student: Tensor,
    teacher: Tensor,
) -> None:
    inputs, options = LossInputs(student, teacher), {**options, "granularity": granularity}
    objective, built = BDKD(**options), BDKD(**{**options, **changed})
    before, after = objective(inputs).total.item(), built(inputs).total.item()
    for name, value in changed.items():
        setattr(objective, name, value)
    assert objective(inputs).total.item() == after
    assert abs(before - after) > 1e-6


def test_weights_without_a_slope_are_those_of_a_sum(student: Tensor, teacher: Tensor) -> None:
    inputs = LossInputs(student, teacher)
    for granularity in ("token", "sequence"):
        flat = BDKD(weighting="soft", kappa=0.0, granularity=granularity)
        close(flat(inputs).total, 1.5 * (ForwardKL()(inputs).total + ReverseKL()(inputs).total))


def test_networks_of_equal_logits_do_not_change_each_other(student: Tensor) -> None:
    for learner, peer in ((BDKD(), student.detach()), (ForwardKL(), student.detach())):
        loss = learner(LossInputs(student, peer))
        assert loss.total.abs() < 1e-14
        assert student_grad(loss, student).abs().max() < 1e-14


def by_sequence(student: Tensor, teacher: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """The sum over sequences, with weights by the mean gap of the positions of each."""
    sums = []
    for z_s, z_t, valid in zip(student, teacher, mask, strict=True):
        z_s, z_t = z_s[valid] / temperature, z_t[valid] / temperature
        gap = (entropy(z_t) - entropy(z_s)).mean()
        forward = losses.forward_kl(z_s, z_t).sum() * (2 if gap > 0 else 1)
        sums.append(forward + losses.reverse_kl(z_s, z_t).sum() * (2 if gap < 0 else 1))
    return temperature**2 * torch.stack(sums).sum()


def test_the_weights_of_a_sequence_follow_its_mean_gap(generator: torch.Generator) -> None:
    student = torch.randn(6, 5, 7, dtype=torch.float64, generator=generator).requires_grad_()
    teacher = 1.2 * torch.randn(6, 5, 7, dtype=torch.float64, generator=generator)
    mask = torch.rand(6, 5, generator=generator) < 0.6
    mask[4] = False
    loss = BDKD(granularity="sequence", temperature=2.0)(LossInputs(student, teacher, mask=mask))
    expected = by_sequence(student, teacher, mask, 2.0)
    close(loss.total, expected)
    close(student_grad(loss, student), torch.autograd.grad(expected, student)[0])
    assert loss.count == mask.sum()
    by_token = BDKD(temperature=2.0)(LossInputs(student, teacher, mask=mask))
    assert abs(by_token.total - expected) > 1e-2


def test_a_sequence_of_one_position_is_a_token(student: Tensor, teacher: Tensor) -> None:
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
        inputs = LossInputs(
            Projected(hidden[0], heads[0]),
            Projected(hidden[1].detach(), heads[1].requires_grad_(False)),
            mask=mask,
            chunked=chunked,
        )
        loss = BDKD(granularity=granularity)(inputs)
        leaves = (hidden, heads[0].weight)
        results.append([loss.total, *torch.autograd.grad(loss.total, leaves)])
    for one, other in zip(*results, strict=True):
        close(one, other)


def test_independent_rows_have_no_weights_of_a_sequence(student: Tensor, teacher: Tensor) -> None:
    with pytest.raises(ValueError, match="evaluated independently here; use granularity='token'"):
        BDKD(granularity="sequence").per_token_loss(student, teacher, None)


def test_sequences_can_be_mixed_with_tokens(generator: torch.Generator) -> None:
    student, teacher = torch.randn(2, 2, 5, 7, generator=generator, dtype=torch.float64).unbind()
    inputs = LossInputs(student, teacher, torch.randint(7, (2, 5), generator=generator))
    each: dict[str, Objective] = {"bdkd": BDKD(granularity="sequence"), "ce": CrossEntropy()}
    mixed = Weighted(each, weights={"ce": 0.5})(inputs)
    apart = [objective(inputs).total for objective in each.values()]
    close(mixed.total, apart[0] + 0.5 * apart[1])
    assert mixed.count == 10
