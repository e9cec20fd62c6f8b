"""DPO: a hand-worked margin, the reference model, and its errors."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
from torch import Tensor

from kdlight import losses
from kdlight.objectives import DPO, LossInputs
from tests.support.objectives import check_refused
from tests.support.preferences import V, grad, preferences

REJECTED = [False, True, True, False]


@pytest.fixture
def teacher(generator: torch.Generator) -> Tensor:
    return torch.randn(4, 6, V, dtype=torch.float64, generator=generator)


def test_the_margin_over_the_reference_is_scaled_by_beta() -> None:
    # one token each: the log-ratio rises by log 2 if chosen, and falls by log 4 if rejected
    student = torch.tensor([[[0.5, 0.5]], [[0.2, 0.8]]], dtype=torch.float64).log()
    reference = torch.tensor([[[0.25, 0.75]], [[0.8, 0.2]]], dtype=torch.float64).log()
    labels, rejected = torch.tensor([[0], [0]]), torch.tensor([False, True])
    loss = DPO(beta=0.3)(LossInputs(student, reference, labels, rejected=rejected))
    assert loss.mean().item() == pytest.approx(log(1 + exp(-0.3 * (log(2) + log(4)))))


def test_pairs_are_formed_in_the_order_of_the_batch(teacher: Tensor) -> None:
    inputs = preferences(REJECTED, teacher=teacher)
    assert inputs.labels is not None
    sums, _ = losses.sequence_log_probs(inputs.student.logits(), inputs.labels)
    reference, _ = losses.sequence_log_probs(teacher, inputs.labels)
    values = losses.dpo(sums[[0, 3]], sums[[1, 2]], reference[[0, 3]], reference[[1, 2]], beta=0.2)
    loss = DPO(beta=0.2)(inputs)
    torch.testing.assert_close(loss.mean(), values.mean())
    torch.testing.assert_close(grad(loss.mean(), inputs), grad(values.mean(), inputs))


def test_a_student_that_is_the_reference_has_a_loss_of_log_2() -> None:
    inputs = preferences(REJECTED)
    teacher = inputs.student.logits().detach()
    same = LossInputs(inputs.student, teacher, inputs.labels, inputs.mask, rejected=inputs.rejected)
    assert DPO(beta=5.0)(same).mean().item() == pytest.approx(log(2))


def test_beta_may_change_and_is_checked(teacher: Tensor) -> None:
    inputs, objective = preferences(REJECTED, teacher=teacher), DPO()
    objective.beta = 0.7
    assert objective(inputs).total == DPO(beta=0.7)(inputs).total
    with pytest.raises(ValueError, match="beta must be above 0"):
        DPO(beta=-1.0)
    check_refused(DPO, beta=float("inf"))


def test_a_reference_model_is_needed() -> None:
    with pytest.raises(ValueError, match="DPO needs a teacher"):
        DPO()(preferences(REJECTED))
