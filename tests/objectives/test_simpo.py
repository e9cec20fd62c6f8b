"""SimPO: means instead of sums, the margin, and its errors."""

from __future__ import annotations

from math import exp, log

import pytest
import torch

from kdlight import losses
from kdlight.objectives import LossInputs, SimPO
from tests.support.objectives import check_refused
from tests.support.preferences import grad, mean_log_probs, preferences

REJECTED = [False, True, True, False]


def test_the_loss_is_that_of_mean_log_probabilities() -> None:
    inputs = preferences(REJECTED)
    values = losses.simpo(*mean_log_probs(inputs), beta=3.0, gamma=0.5)
    loss = SimPO(beta=3.0, gamma=0.5)(inputs)
    torch.testing.assert_close(loss.mean(), values.mean())
    torch.testing.assert_close(grad(loss.mean(), inputs), grad(values.mean(), inputs))
    assert loss.count == 2


def test_gamma_is_subtracted_from_the_scaled_margin() -> None:
    student = torch.tensor([[[0.5, 0.5]], [[0.25, 0.75]]], dtype=torch.float64).log()
    labels, rejected = torch.tensor([[0], [0]]), torch.tensor([False, True])
    loss = SimPO(beta=2.0, gamma=0.5)(LossInputs(student, labels=labels, rejected=rejected))
    assert loss.mean().item() == pytest.approx(log(1 + exp(0.5 - 2 * log(2))))


def test_no_teacher_is_used() -> None:
    inputs = preferences(REJECTED)
    teacher = torch.randn(inputs.student.shape, dtype=torch.float64)
    taught = LossInputs(
        inputs.student, teacher, inputs.labels, inputs.mask, rejected=inputs.rejected
    )
    assert SimPO()(taught).total == SimPO()(inputs).total


def test_hyper_parameters_are_checked() -> None:
    check_refused(SimPO, beta=0.0)
    check_refused(SimPO, gamma=-1.0)
