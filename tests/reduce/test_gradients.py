"""Gradients of a block: closed form, autograd, transforms, compiled code."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight import Chunking, Dense, Projected, losses
from kdlight.losses import value_and_grad as closed_forms
from kdlight.models.output_head import Rescale
from kdlight.objectives import (
    Divergence,
    ForwardKL,
    LossInputs,
    Objective,
    TokenObjective,
    build_objective,
)
from kdlight.reduce import split_values, token_sum
from tests.support.chunked_data import (
    OBJECTIVE_FACTORIES,
    TOKEN_OBJECTIVES,
    ProjectedData,
    V,
    assert_all_close,
)
from tests.support.device_questions import questions


@pytest.mark.parametrize("transform", [Rescale(scale=0.25), Rescale(cap=3.0), Rescale(2.0, 5.0)])
@pytest.mark.parametrize("name", ["forward_kl", "decoupled_kl", "ctkd"])
def test_gradients_pass_through_scales_and_soft_caps(name, transform):
    data, objective = ProjectedData(), build_objective(name).double()
    data.student = Projected(data.hidden, data.head, transform)
    data.teacher = Projected(data.teacher_hidden, data.teacher_head, Rescale(cap=2.0))
    assert_all_close(data.evaluate(objective, Chunking(5, 2)), data.evaluate(objective, False))


def test_logits_of_minus_infinity():
    data = ProjectedData()
    forbidden = torch.zeros(V, dtype=torch.float64)
    forbidden[3] = forbidden[V - 1] = -torch.inf
    one_sided = data.teacher.logits()
    one_sided[2, 5] = -torch.inf
    labels = data.labels.clamp(4, V - 2)
    for name in TOKEN_OBJECTIVES:
        objective = build_objective(name).double()

        def evaluate(chunked: Any, objective: Objective = objective) -> list[Tensor]:
            student = Dense(data.student.logits() + forbidden)
            teacher = Dense(one_sided + forbidden)
            return data.evaluate(
                objective, chunked, labels=labels, student=student, teacher=teacher
            )

        chunked = evaluate(Chunking(5, 2))
        assert_all_close(chunked, evaluate(False))
        # where the teacher alone forbids a token, a reverse KL is infinite, in chunks or not
        finite = chunked if chunked[0].isfinite() else chunked[-3:]
        assert all(x.isfinite().all() for x in finite), name


LOW = [-torch.inf, torch.finfo(torch.float32).min, -1e31]


@pytest.mark.parametrize("low", LOW)
@pytest.mark.parametrize("side", ["student", "teacher", "both"])
@pytest.mark.parametrize("name", OBJECTIVE_FACTORIES)
def test_an_impossible_token_is_one_in_chunks_and_at_once(name, side, low):
    """A -inf at once, which tests/losses/test_loss_edges.py compares with references."""
    data, column = ProjectedData(), torch.tensor([3, V - 1])
    objective = OBJECTIVE_FACTORIES[name]().double()

    def evaluate(chunked: Any, low: float) -> list[Tensor]:
        student, teacher = data.student.logits(), data.teacher.logits()
        if side != "teacher":
            student = student.index_fill(-1, column, low)
        if side != "student":
            teacher = teacher.index_fill(-1, column, low)
        return data.evaluate(objective, chunked, student=Dense(student), teacher=Dense(teacher))

    expected = evaluate(False, -torch.inf)
    for chunked in (Chunking(5, 2), False):
        assert_all_close(evaluate(chunked, low), expected)
    assert all(x.isfinite().all() for x in expected[-3:])  # gradients


@pytest.mark.parametrize("offset", [1e4, -1e6])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("name", TOKEN_OBJECTIVES)
def test_logits_far_from_zero_lose_no_digit_in_chunks(name, temperature, offset):
    """Against all logits at once, in float64, from the same float32 logits."""
    data, objective = ProjectedData(torch.float32), build_objective(name)
    if isinstance(objective, Divergence):
        objective.temperature = temperature
    results = []
    for dtype, chunked in ((torch.float32, Chunking(5, 2)), (torch.float64, False)):
        leaf = (data.student.logits().detach() + offset).to(dtype).requires_grad_()
        teacher = (data.teacher.logits() - offset).to(dtype)
        loss = objective.to(dtype)(data.inputs(chunked, student=leaf, teacher=teacher))
        results.append([loss.total.detach(), *torch.autograd.grad(loss.total, leaf)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5)


def test_a_subclass_that_redefines_the_loss_does_not_inherit_the_closed_form():
    class Doubled(ForwardKL):
        def divergence(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
            return 2 * super().divergence(student, teacher, labels)

    data = ProjectedData()
    doubled, single = (data.evaluate(kind(), Chunking(5, 2)) for kind in (Doubled, ForwardKL))
    assert_all_close(
        [doubled[0], *doubled[2:]], [2 * single[0], *(2 * each for each in single[2:])]
    )


@pytest.mark.parametrize("name", TOKEN_OBJECTIVES)
def test_closed_forms_equal_autograd(name):
    torch.manual_seed(0)
    for width in (7, 9000):  # short and long rows take different code paths
        student, teacher = torch.randn(2, 3, width, dtype=torch.float64).unbind()
        labels = torch.randint(width, (3,))
        for temperature in (1.0, 2.5):
            objective = build_objective(name)
            if isinstance(objective, Divergence):
                objective.temperature = temperature
            assert isinstance(objective, TokenObjective)
            result = objective.value_and_grad(student, teacher, labels)
            if result is None:
                continue
            leaf = student.clone().requires_grad_()
            values, parts = split_values(objective.per_token_loss(leaf, teacher, labels))
            (grad,) = torch.autograd.grad(values.sum(), leaf)
            closed, own_parts = split_values(result[0])
            assert parts.keys() == own_parts.keys()
            assert_all_close(
                [closed.detach(), result[1], *(own_parts[name].detach() for name in parts)],
                [values.detach(), grad, *(each.detach() for each in parts.values())],
            )


class Scaled(Divergence):
    """A closed form with parts, and values that have a graph to a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(1.5, dtype=torch.float64))

    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> Any:
        values = self.scale**2 * losses.forward_kl(student, teacher)
        return values, {"scale": self.scale.detach().expand_as(values)}

    def value_and_grad(self, student: Tensor, teacher: Any, labels: Any) -> Any:
        values, grad = closed_forms.forward_kl(student, teacher)
        parts = {"scale": self.scale.detach().expand_as(values)}
        self.calls = getattr(self, "calls", 0) + 1
        return (self.scale**2 * values, parts), grad * self.scale.detach() ** 2


def test_a_closed_form_may_have_parts_and_a_graph_to_parameters():
    data, objective = ProjectedData(), Scaled()
    expected = data.evaluate(objective, False)
    assert not hasattr(objective, "calls")  # all at once, autograd does it
    assert_all_close(data.evaluate(objective, Chunking(5, 2)), expected)
    assert objective.calls
    weights = torch.linspace(-1, 2, len(data.mask), dtype=torch.float64)
    results = []
    for how in (Chunking(5, 2), False):
        loss = token_sum(
            objective.per_token_loss,
            data.student,
            data.teacher,
            weights=weights,
            value_and_grad=objective.value_and_grad,
            parameters=tuple(objective.parameters()),
            chunked=how,
        )
        results.append(torch.autograd.grad(loss.total, [*data.leaves, objective.scale]))
    assert_all_close(list(results[0]), list(results[1]))


def test_the_closed_form_is_left_where_its_values_cannot_be_looked_at():
    data, objective = ProjectedData(), Scaled()
    with questions():
        data.evaluate(objective, Chunking(5, 2))
    assert not hasattr(objective, "calls")


@pytest.mark.parametrize("kinds", [(torch.float32, torch.float64), (torch.float64, torch.float32)])
@pytest.mark.parametrize("name", TOKEN_OBJECTIVES)
def test_both_sides_may_have_types_of_their_own(name, kinds):
    data, results = ProjectedData(), []
    student, teacher = (
        side.logits().detach().to(kind)
        for side, kind in zip((data.student, data.teacher), kinds, strict=True)
    )
    objective = OBJECTIVE_FACTORIES[name]().double()
    for chunked in (Chunking(5, 2), False):
        leaf = student.clone().requires_grad_()
        loss = objective(LossInputs(leaf, teacher, data.labels, data.mask, chunked=chunked))
        loss.total.backward()
        results.append([loss.total.detach(), leaf.grad])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", TOKEN_OBJECTIVES)
def test_a_batch_without_a_valid_position_has_no_loss(name):
    data, objective = ProjectedData(), OBJECTIVE_FACTORIES[name]()
    mask = torch.zeros_like(data.labels, dtype=torch.bool)
    for kind in (torch.float32, torch.float64):
        for chunked in (Chunking(5, 2), False):
            leaf = data.student.logits().detach().to(kind).requires_grad_()
            teacher = data.teacher.logits().detach().to(kind)
            loss = objective(LossInputs(leaf, teacher, data.labels, mask, chunked=chunked))
            loss.total.backward()
            assert loss.total == loss.count == 0
            assert leaf.grad is not None
            assert not leaf.grad.any()
