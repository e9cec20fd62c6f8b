"""TAID: its ends, its target, what it logs, and its state."""

from __future__ import annotations

import pytest
import torch

from kdlight.objectives import TAID, ForwardKL, LossInputs
from tests.support.objectives import check_attributes, check_refused, grad


def test_it_is_nothing_at_the_student_and_forward_kl_at_the_teacher(inputs: LossInputs) -> None:
    start, end = TAID(t=0.0)(inputs), TAID(t=1.0)(inputs)
    assert start.total == 0
    assert not grad(start, inputs).any()
    torch.testing.assert_close(end.total, ForwardKL()(inputs).total)
    torch.testing.assert_close(grad(end, inputs), grad(ForwardKL()(inputs), inputs))


def test_the_gradient_is_the_student_minus_the_target(inputs: LossInputs) -> None:
    student, teacher = inputs.student.logits(), inputs.teacher.logits()  # type: ignore[union-attr]
    expected = student.softmax(-1) - (0.7 * student + 0.3 * teacher).softmax(-1)
    expected = expected.masked_fill(~inputs.mask[..., None], 0.0)  # type: ignore[index]
    torch.testing.assert_close(grad(TAID(t=0.3)(inputs), inputs), expected.detach())


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_taid_logs_the_cross_entropy_with_its_target(t: float, inputs: LossInputs) -> None:
    objective = TAID(t=t, log_cross_entropy=True)
    student, teacher = inputs.student.logits(), inputs.teacher.logits()  # type: ignore[union-attr]
    target = ((1 - t) * student + t * teacher).softmax(-1)
    expected = -(target * student.log_softmax(-1)).sum(-1)[inputs.mask].sum()
    loss = objective(inputs)
    torch.testing.assert_close(loss.parts["cross_entropy"], expected.detach())
    assert loss.total == TAID(t=t)(inputs).total


def test_taid_logs_a_finite_cross_entropy_beside_forbidden_columns(inputs: LossInputs) -> None:
    columns = torch.zeros(7, dtype=torch.float64)
    columns[2] = -torch.inf
    for t in (0.0, 0.5, 1.0):
        forbidden = LossInputs(inputs.student.logits() + columns, inputs.teacher.logits() + columns)  # type: ignore[union-attr]
        loss = TAID(t=t, log_cross_entropy=True)(forbidden)
        assert loss.parts["cross_entropy"].isfinite()


def test_t_may_change_and_is_checked(inputs: LossInputs) -> None:
    check_attributes(TAID, inputs, t=0.9)
    check_refused(TAID, t=1.5)


def test_state_dict_restores_t() -> None:
    """It is neither a parameter nor a buffer."""
    objective, again = TAID(), TAID()
    objective.t = 0.75
    again.load_state_dict(objective.state_dict())
    assert again.t == 0.75
