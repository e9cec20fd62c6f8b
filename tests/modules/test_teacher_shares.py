"""Shares of teachers among the parts of a loss."""

from __future__ import annotations

import torch

from kdlight import Dense
from kdlight.modules.teacher_shares import with_shares
from kdlight.objectives import CrossEntropy, ForwardKL, LossInputs
from kdlight.sources import GivenWeights, Mixture

WEIGHTS = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
LABELS = torch.tensor([0, 1, -100])


def inputs(labels: torch.Tensor) -> LossInputs:
    each = Dense(torch.zeros(3, 4)), Dense(torch.ones(3, 4))
    source = Mixture(each, GivenWeights(WEIGHTS), ("a", "b"))
    return LossInputs(torch.zeros(3, 4), source, labels, labels != -100)


def test_shares_are_sums_over_the_units_of_the_loss() -> None:
    these = inputs(LABELS)
    loss = with_shares(ForwardKL()(these), these)
    assert {name: part.item() for name, part in loss.parts.items()} == {
        "teacher/a/share": 1.5,
        "teacher/b/share": 0.5,
    }


def test_a_batch_without_units_has_the_same_names() -> None:
    empty = inputs(torch.full((3,), -100))
    loss = with_shares(ForwardKL()(empty), empty)
    assert {name: part.item() for name, part in loss.parts.items()} == {
        "teacher/a/share": 0.0,
        "teacher/b/share": 0.0,
    }


def test_an_objective_that_evaluates_no_average_has_no_shares() -> None:
    these = inputs(LABELS)
    assert with_shares(CrossEntropy()(these), these).parts == {}
    alone = LossInputs(torch.zeros(3, 4), labels=LABELS, mask=LABELS != -100)
    assert with_shares(CrossEntropy()(alone), alone).parts == {}
