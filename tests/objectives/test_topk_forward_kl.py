"""Top-k forward KL: hand-worked values of both tails, the temperature, and a cached teacher."""

from __future__ import annotations

from math import exp, log
from typing import Any

import pytest
import torch

from kdlight.objectives import ForwardKL, LossInputs, TopKForwardKL
from kdlight.sources import TopK
from tests.support.objectives import check_attributes, check_refused, one_position, tempered

P, Q = (0.5, 0.3, 0.15, 0.05), (0.3, 0.2, 0.4, 0.1)


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * log(a / b) for a, b in zip(p, q, strict=True))


def test_a_bucket_holds_all_other_tokens() -> None:
    value = TopKForwardKL(k=2)(one_position(Q, P)).mean().item()
    assert value == pytest.approx(kl([0.5, 0.3, 0.2], [0.3, 0.2, 0.5]))


def test_renormalised_tokens_are_compared_alone() -> None:
    value = TopKForwardKL(k=2, tail="renormalise")(one_position(Q, P)).mean().item()
    assert value == pytest.approx(kl([0.5 / 0.8, 0.3 / 0.8], [0.6, 0.4]))


def test_the_temperature_is_that_of_the_teacher_alone() -> None:
    p = tempered(P, 2.0)
    value = TopKForwardKL(k=2, temperature=2.0)(one_position(Q, P)).mean().item()
    assert value == pytest.approx(kl([*p[:2], p[2] + p[3]], [0.3, 0.2, 0.5]))


SYMMETRIC: list[dict[str, Any]] = [{"tail": "bucket"}, {"tail": "renormalise"}]


@pytest.mark.parametrize("options", SYMMETRIC, ids=lambda options: options["tail"])
def test_equal_temperatures_divide_both_logits(options: Any, inputs: LossInputs) -> None:
    assert inputs.teacher is not None
    student = inputs.student.logits().detach().double().requires_grad_()
    teacher = inputs.teacher.logits().double()
    values, gradients = [], []
    for temperature, scale in ((2.5, 1.0), (1.0, 2.5)):
        objective = TopKForwardKL(
            k=3, temperature=temperature, student_temperature=temperature, **options
        )
        loss = objective(LossInputs(student / scale, teacher / scale, mask=inputs.mask))
        values.append(loss.total.detach())
        gradients.append(torch.autograd.grad(loss.total, student)[0])
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().max() > 1e-3


def test_equal_temperatures_of_a_cached_teacher_are_those_of_forward_kl(inputs: LossInputs) -> None:
    assert inputs.teacher is not None
    student = inputs.student.logits().detach().double().requires_grad_()
    kept = TopK.of(inputs.teacher.logits().double(), 4)
    cached = LossInputs(student, kept, mask=inputs.mask)
    one = TopKForwardKL(k=4, temperature=2.0, student_temperature=2.0)(cached)
    other = ForwardKL(temperature=2.0, temperature_squared=False)(cached)
    torch.testing.assert_close(one.total, other.total)
    one, other = (torch.autograd.grad(loss.total, student)[0] for loss in (one, other))
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_a_cached_bucket_is_compared_as_a_whole_at_any_temperature_of_the_student(
    temperature: float, inputs: LossInputs
) -> None:
    """Value and gradient are those over k + 1 outcomes: the tail has the shape of the student's."""
    assert inputs.teacher is not None
    student = inputs.student.logits().detach().double().requires_grad_()
    kept = TopK.of(inputs.teacher.logits().double(), 3)
    objective = TopKForwardKL(k=3, temperature=temperature, student_temperature=2.0)
    loss = objective(LossInputs(student, kept, mask=inputs.mask)).total
    rows = inputs.valid_positions()
    z, p = student.flatten(0, -2)[rows], kept.select(rows)
    log_q = (z / 2.0).log_softmax(-1)
    with torch.no_grad():  # the teacher's own tail has the shape of the student's at 1
        target = (p.given_student(z.detach()) / temperature).softmax(-1)
    expected = torch.tensor(0.0, dtype=torch.float64)
    for log_q_row, p_row, ids in zip(log_q, target, p.ids, strict=True):
        others = [v for v in range(len(p_row)) if v not in ids.tolist()]
        q_row = torch.cat([log_q_row[ids], log_q_row[others].logsumexp(0, keepdim=True)])
        p_row = torch.cat([p_row[ids], p_row[others].sum(0, keepdim=True)])
        expected = expected + (p_row * (p_row.log() - q_row)).sum()
    torch.testing.assert_close(loss, expected)
    gradients = [torch.autograd.grad(each, student)[0] for each in (loss, expected)]
    torch.testing.assert_close(*gradients)


def test_the_student_learns_the_confidence_of_the_teacher_over_that_of_its_own() -> None:
    """Without a tail, the minimum is where the tempered distributions are equal."""
    teacher = torch.tensor([[2.0, 1.0, -1.0]])
    student = teacher * 1.5 / 3.0
    objective = TopKForwardKL(k=3, temperature=3.0, student_temperature=1.5)
    assert objective(LossInputs(student, teacher)).total.item() == pytest.approx(0.0, abs=1e-6)


def test_probabilities_can_take_the_place_of_logits() -> None:
    objective = TopKForwardKL(k=2, tail="renormalise", temperature=0.5, recalibrate="probs")
    powers_p, powers_q = [exp(x / 0.5) for x in P[:2]], [exp(x) for x in Q[:2]]
    p, q = ([x / sum(powers) for x in powers] for powers in (powers_p, powers_q))
    assert objective(one_position(Q, P)).mean().item() == pytest.approx(kl(p, q))


def test_all_tokens_are_forward_kl(inputs: LossInputs) -> None:
    torch.testing.assert_close(TopKForwardKL(k=9)(inputs).total, ForwardKL()(inputs).total)


def test_of_a_cached_teacher_k_tokens_are_used(inputs: LossInputs) -> None:
    assert inputs.teacher is not None
    kept = TopK.of(inputs.teacher.logits(), 4)
    cached = LossInputs(inputs.student, kept, mask=inputs.mask)
    # with a temperature, the mass of a bucket depends on tokens that a cache does not have
    for options in ({"tail": "bucket"}, {"tail": "renormalise", "temperature": 1.5}):
        objective = TopKForwardKL(k=2, **options)  # type: ignore[arg-type]
        torch.testing.assert_close(objective(cached).total, objective(inputs).total)


def test_a_cached_teacher_with_a_temperature_is_refused_with_probabilities(
    inputs: LossInputs,
) -> None:
    assert inputs.teacher is not None
    objective = TopKForwardKL(tail="renormalise", recalibrate="probs")
    hot = TopK.of(inputs.teacher.logits(), 6)
    hot = TopK(hot.ids, hot.log_probs, hot.vocabulary, temperature=2.0)
    with pytest.raises(ValueError, match="needs a cached teacher with a temperature of 1, got 2"):
        objective(LossInputs(inputs.student, hot))


def test_hyper_parameters_may_change_and_are_checked(inputs: LossInputs) -> None:
    check_attributes(TopKForwardKL, inputs, temperature=3.0)
    check_attributes(TopKForwardKL, inputs, k=2)
    check_refused(TopKForwardKL, k=0)
    check_refused(TopKForwardKL, temperature=0.0)
    check_attributes(TopKForwardKL, inputs, student_temperature=2.0)
    check_refused(TopKForwardKL, student_temperature=0.0)
    with pytest.raises(ValueError, match="tail must be one of .*got 'cut'"):
        TopKForwardKL(tail="cut")  # type: ignore[arg-type]


@pytest.mark.parametrize("cached", [False, True])
def test_kept_tokens_that_the_student_forbids_cost_infinity(cached: bool) -> None:
    student = torch.tensor([[0.0, 0.0, -torch.inf]], requires_grad=True)
    teacher = torch.tensor([[0.0, 0.0, 1.0]])
    source = TopK.of(teacher, 1, tail="renormalise") if cached else teacher
    loss = TopKForwardKL(k=1, tail="renormalise")(LossInputs(student, source))
    assert loss.total == torch.inf
    assert torch.autograd.grad(loss.total, student)[0].isfinite().all()
