"""REDI: the loss of the paper, sequences without pairs, and its further options."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight import losses
from kdlight.objectives import REDI, CrossEntropy, ForwardKL, LossInputs, Weighted
from tests.support.preferences import V, grad, mean_log_probs, preferences


def test_pairs_give_the_loss_of_the_paper() -> None:
    inputs = preferences([False, True, True, False])
    chosen, rejected = mean_log_probs(inputs)
    expected = losses.redi(chosen, rejected, alpha=0.8, chosen_weight=0.5).mean()
    loss = REDI(alpha=0.8, chosen_weight=0.5)(inputs).mean()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(grad(loss, inputs), grad(expected, inputs))


def test_chosen_and_rejected_ones_are_divided_by_their_own_numbers() -> None:
    inputs = preferences([False, True, True, False, True, True])
    chosen, rejected = mean_log_probs(inputs)
    loss = REDI(alpha=0.8, rejected_per_chosen=2.0)(inputs).mean()
    torch.testing.assert_close(loss, -chosen.mean() + 0.8 * rejected.mean())


def test_without_rejected_all_are_chosen() -> None:
    inputs = preferences([False, False, False])
    loss = REDI()(LossInputs(inputs.student, None, inputs.labels, inputs.mask)).mean()
    torch.testing.assert_close(loss, -mean_log_probs(inputs)[0].mean())


def test_parts_are_means_over_chosen_and_over_rejected_sequences() -> None:
    inputs = preferences([False, True, True, False])  # lengths 3, 6, 2, 4
    loss = REDI(alpha=0.8)(inputs)
    parts = {name: (part / loss.count).item() for name, part in loss.parts.items()}
    assert parts["chosen_length"] == 3.5
    assert parts["rejected_length"] == 4
    assert parts["short_rejected"] == 0.5  # 2 < 0.8 * 4, and 6 > 0.8 * 3
    sums = losses.sequence_log_probs(inputs.student.logits(), inputs.labels)[0][[0, 3]]  # type: ignore[arg-type]
    assert parts["chosen_sum"] == pytest.approx(sums.mean().item())


def test_tokens_below_the_floor_get_no_gradient() -> None:
    inputs = preferences([True, True])
    free = grad(REDI()(inputs).total, inputs)
    held = grad(REDI(floor=-2.0)(inputs).total, inputs)
    assert inputs.labels is not None
    assert inputs.mask is not None
    log_p = -losses.cross_entropy(inputs.student.logits(), inputs.labels)
    low = (log_p < -2.0) & inputs.mask
    assert low.any()
    assert not low[inputs.mask].all()
    assert not held[low].any()
    torch.testing.assert_close(held[~low], free[~low])


def test_tokens_that_are_unlikely_for_the_teacher_are_gated() -> None:
    teacher = torch.randn(2, 6, V, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    inputs = preferences([True, True], teacher=teacher)
    assert inputs.labels is not None
    assert inputs.mask is not None
    likely = (-losses.cross_entropy(teacher, inputs.labels)).exp() > 0.1
    free, gated = (grad(REDI(gate=gate)(inputs).total, inputs) for gate in (0.0, 0.1))
    assert not gated[~likely].any()
    torch.testing.assert_close(gated[likely], free[likely])
    assert 0 < (likely & inputs.mask).sum() < inputs.mask.sum()


def test_a_short_rejected_sequence_has_less_weight_with_a_minimum_length() -> None:
    inputs = preferences([False, False, True])  # the rejected one has 2 tokens
    free, held = (grad(REDI(min_rejected_length=least)(inputs).total, inputs) for least in (1, 8))
    torch.testing.assert_close(held[2] * 4, free[2])
    torch.testing.assert_close(held[:2], free[:2])


def test_the_divergence_is_one_of_chosen_sequences_only() -> None:
    teacher = torch.randn(4, 6, V, dtype=torch.float64)
    inputs = preferences([False, True, True, False], teacher=teacher)
    plain = grad(REDI()(inputs).total, inputs)
    mixed = grad(REDI(kd=ForwardKL(), kd_weight=0.5)(inputs).total, inputs)
    torch.testing.assert_close(mixed[1:3], plain[1:3])
    assert (mixed[0] - plain[0]).abs().max() > 1e-2


def test_a_mixture_converts_it_to_tokens() -> None:
    inputs = preferences([False, True])
    mix = Weighted({"redi": REDI(), "ce": CrossEntropy()}, weights={"ce": 0.0})(inputs)
    torch.testing.assert_close(mix.mean(), REDI()(inputs).mean())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: REDI(alpha=1.2), "alpha must be in"),
        (lambda: REDI(rejected_per_chosen=0.0), "rejected_per_chosen must be above 0"),
        (lambda: REDI(floor=0.1), "floor is a log-probability"),
        (lambda: REDI(gate=1.0), "gate must be in"),
        (lambda: REDI(min_rejected_length=0), "min_rejected_length must be"),
        (lambda: REDI(gate=0.5)(preferences([True])), "needs a teacher"),
        (
            lambda: REDI()(LossInputs(torch.zeros(3, V), labels=torch.zeros(3).long())),
            "compares whole sequences",
        ),
    ],
)
def test_what_is_wrong_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
