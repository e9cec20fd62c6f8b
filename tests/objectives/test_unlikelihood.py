"""Unlikelihood: the loss of rejected sequences, and its vanishing gradient."""

from __future__ import annotations

from math import log

import pytest
import torch

from kdlight.objectives import REDI, LossInputs, Unlikelihood
from tests.support.objectives import check_refused
from tests.support.preferences import grad, mean_log_probs, preferences


def one_token(p: float) -> LossInputs:
    """A rejected sequence of one token, of probability p."""
    student = torch.tensor([[[p, 1 - p]]], dtype=torch.float64).log().requires_grad_()
    return LossInputs(student, labels=torch.tensor([[0]]), rejected=torch.tensor([True]))


def test_a_rejected_token_has_the_log_probability_of_all_others() -> None:
    # the count is 1 sequence, of which there are 2 for each rejected one
    loss = Unlikelihood(alpha=0.5)(one_token(0.2))
    assert loss.mean().item() == pytest.approx(2 * 0.5 * -log(0.8))


def test_chosen_sequences_are_those_of_redi() -> None:
    inputs = preferences([False, True, True, False])
    chosen, _ = mean_log_probs(inputs)
    loss = Unlikelihood(alpha=0.0, chosen_weight=0.5)(inputs)
    torch.testing.assert_close(loss.mean(), -0.5 * chosen.mean())
    torch.testing.assert_close(
        loss.total, REDI(alpha=0.0, chosen_weight=0.5)(inputs).total, rtol=0, atol=0
    )


def test_the_gradient_vanishes_with_the_probability_and_that_of_redi_does_not() -> None:
    inputs = one_token(1e-6)
    own, other = (grad(x(alpha=0.5)(inputs).total, inputs) for x in (Unlikelihood, REDI))
    assert own.abs().max() < 2e-6
    assert other.abs().max() > 0.9


def test_the_log_probability_is_logged() -> None:
    inputs = preferences([False, True])
    chosen, rejected = mean_log_probs(inputs)
    loss = Unlikelihood()(inputs)
    means = [(loss.parts[name] / loss.count).item() for name in ("chosen_sum", "rejected_sum")]
    assert means == pytest.approx([3 * chosen.item(), 6 * rejected.item()])


def test_hyper_parameters_are_checked() -> None:
    check_refused(Unlikelihood, alpha=1.5)
    check_refused(Unlikelihood, chosen_weight=-1.0)
    check_refused(Unlikelihood, rejected_per_chosen=0.0)
    check_refused(Unlikelihood, min_rejected_length=0)
