"""MultiLevelOT as an objective: the sum over pairs of positions, and its hyper-parameters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import Projected
from kdlight.losses import multi_level_ot
from kdlight.objectives import LossInputs, MultiLevelOT
from tests.losses.optimal_transport.test_uld import STUDENT_MASK, TEACHER_MASK, close, pair
from tests.support.objectives import check_attributes

pair = pair  # the fixture
MASKS: dict[str, Any] = {"student_mask": STUDENT_MASK, "teacher_mask": TEACHER_MASK}


def masked(pair: tuple[Tensor, Tensor]) -> LossInputs:
    return LossInputs(*pair, mask=STUDENT_MASK, teacher_mask=TEACHER_MASK)


@pytest.mark.parametrize("chunked", [False, "auto"])
def test_the_objective_is_the_sum_over_pairs(pair: Any, chunked: Any) -> None:
    _, teacher = pair
    hidden = torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True)
    head = nn.Linear(4, 7).double()
    loss = MultiLevelOT(k=3, beta=0.5)(
        LossInputs(
            Projected(hidden, head),
            teacher,
            mask=STUDENT_MASK,
            teacher_mask=TEACHER_MASK,
            chunked=chunked,
        )
    )
    expected = multi_level_ot(head(hidden), teacher, **MASKS, k=3, beta=0.5)
    close(loss.mean(), expected)
    assert loss.count == 4
    leaves = [hidden, head.weight]
    close(torch.autograd.grad(loss.mean(), leaves), torch.autograd.grad(expected, leaves))


def test_k_is_at_most_the_smaller_vocabulary(pair: Any) -> None:
    close(MultiLevelOT(k=50)(masked(pair)).total, MultiLevelOT(k=7)(masked(pair)).total)
    assert abs(MultiLevelOT(k=3)(masked(pair)).total - MultiLevelOT(k=7)(masked(pair)).total) > 1e-4


@pytest.mark.parametrize("name", ["beta", "gamma", "temperature"])
def test_hyper_parameters_may_change(name: str, pair: Any) -> None:
    check_attributes(MultiLevelOT, masked(pair), **{name: 2.0})


def test_both_sides_must_have_the_same_sequences(pair: Any) -> None:
    student, teacher = pair
    with pytest.raises(ValueError, match="same sequences, got 3 of the student"):
        MultiLevelOT()(LossInputs(student, teacher[:2]))
