"""ULD as an objective: the mean of each sequence, from logits or hidden states."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from kdlight import Projected
from kdlight.losses import uld
from kdlight.objectives import ULD, LossInputs
from kdlight.reduce import Chunking
from tests.losses.optimal_transport.test_uld import STUDENT_MASK, TEACHER_MASK, close, pair
from tests.support.objectives import check_refused, one_position

pair = pair  # the fixture
MASKS: dict[str, Any] = {"student_mask": STUDENT_MASK, "teacher_mask": TEACHER_MASK}


@pytest.mark.parametrize("chunked", [False, Chunking(tokens=2, block=1)])
def test_the_mean_is_the_loss(pair: Any, chunked: Any) -> None:
    _, teacher = pair
    hidden = torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True)
    head = nn.Linear(4, 7).double()
    source = Projected(hidden, head)
    loss = ULD(student_temperature=2.0)(
        LossInputs(source, teacher, mask=STUDENT_MASK, teacher_mask=TEACHER_MASK, chunked=chunked)
    )
    expected = uld(head(hidden), teacher, student_temperature=2.0, **MASKS)
    close(loss.mean(), expected)
    assert loss.count == 2
    leaves = [hidden, head.weight]
    close(torch.autograd.grad(loss.mean(), leaves), torch.autograd.grad(expected, leaves))


def test_sorted_probabilities_are_compared_whatever_the_tokens() -> None:
    # sorted: (0.5, 0.5, 0) and (0.6, 0.3, 0.1)
    loss = ULD()(one_position((0.5, 0.5), (0.1, 0.6, 0.3)))
    assert loss.mean().item() == pytest.approx(0.1 + 0.2 + 0.1)


def test_the_temperatures_are_those_of_their_own_side(pair: Any) -> None:
    student, teacher = pair
    scaled = LossInputs(student / 2, teacher / 3, mask=STUDENT_MASK, teacher_mask=TEACHER_MASK)
    plain = LossInputs(student, teacher, mask=STUDENT_MASK, teacher_mask=TEACHER_MASK)
    objective = ULD(student_temperature=2.0, teacher_temperature=3.0)
    close(objective(plain).total, ULD()(scaled).total)
    objective.student_temperature, objective.teacher_temperature = 1.0, 1.0
    close(objective(plain).total, ULD()(plain).total)


def test_temperatures_are_checked() -> None:
    with pytest.raises(ValueError, match="teacher_temperature must be above 0 .*got 0"):
        ULD(teacher_temperature=0.0)
    check_refused(ULD, student_temperature=-1.0)
