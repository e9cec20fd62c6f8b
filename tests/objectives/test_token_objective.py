"""Per-token objectives and divergences: values for the log, temperatures, and closed forms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import Projected, losses
from kdlight.objectives import (
    OBJECTIVES,
    CrossEntropy,
    Divergence,
    ForwardKL,
    LossInputs,
    TokenObjective,
    build_objective,
)
from kdlight.reduce import Chunking
from tests.support.objectives import check_attributes

DIVERGENCES = [name for name, kind in OBJECTIVES.items() if issubclass(kind, Divergence)]


@pytest.mark.parametrize("value", [0.0, -1.0])
@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_wrong_temperature_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"temperature must be .*got {value}"):
        build_objective(name, temperature=value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_temperature_is_finite(value: float) -> None:
    with pytest.raises(ValueError, match=rf"temperature must be .*got {value}"):
        ForwardKL(temperature=value)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_temperature_may_change(name: str, inputs: LossInputs) -> None:
    check_attributes(OBJECTIVES[name], inputs, temperature=3.0)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_square_of_the_temperature_is_a_choice(name: str, inputs: LossInputs) -> None:
    scaled = build_objective(name, temperature=3.0)(inputs).total
    plain = build_objective(name, temperature=3.0, temperature_squared=False)(inputs).total
    torch.testing.assert_close(scaled, 9 * plain)


def test_positions_must_be_the_same(inputs: LossInputs) -> None:
    with pytest.raises(ValueError, match=r"labels has positions of shape \(2, 4\)"):
        CrossEntropy()(replace_labels(inputs, inputs.labels[:, 1:]))  # type: ignore[index]


def replace_labels(inputs: LossInputs, labels: Tensor) -> LossInputs:
    return LossInputs(inputs.student, inputs.teacher, labels, inputs.mask)


def test_further_values_of_a_per_token_loss_are_logged(inputs: LossInputs) -> None:
    class Agreement(TokenObjective):
        def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> Any:
            hits = student.argmax(-1) == teacher.argmax(-1)
            return losses.forward_kl(student, teacher), {"hits": hits.double()}

    loss = Agreement()(inputs)
    assert 0 <= loss.parts["hits"] <= loss.count
    assert loss.total == ForwardKL()(inputs).total


def chunked(inputs: LossInputs, head: nn.Linear) -> LossInputs:
    """The same teacher and mask with hidden states of a student, in chunks: closed forms apply."""
    hidden = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    chunking = Chunking(tokens=4, block=2)
    return LossInputs(Projected(hidden, head), inputs.teacher, None, inputs.mask, chunked=chunking)


def test_a_loss_that_is_redefined_is_not_evaluated_by_the_closed_form_of_its_base(
    inputs: LossInputs,
) -> None:
    class Doubled(ForwardKL):
        def divergence(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
            return 2 * super().divergence(student, teacher, labels)

    head = nn.Linear(3, 7).double()
    inputs = chunked(inputs, head)
    doubled, plain = Doubled()(inputs), ForwardKL()(inputs)
    torch.testing.assert_close(doubled.total, 2 * plain.total)
    gradients = [torch.autograd.grad(loss.total, head.weight)[0] for loss in (doubled, plain)]
    torch.testing.assert_close(gradients[0], 2 * gradients[1])


def test_a_closed_form_of_a_subclass_is_used(inputs: LossInputs) -> None:
    class Constant(ForwardKL):
        def divergence_and_grad(
            self, student: Tensor, teacher: Tensor, labels: Any
        ) -> tuple[Tensor, Tensor]:
            return torch.ones_like(student[:, 0]), torch.full_like(student, 0.5)

    head = nn.Linear(3, 7).double()
    loss = Constant()(chunked(inputs, head))
    assert loss.total == loss.count
    (gradient,) = torch.autograd.grad(loss.total, head.bias)
    torch.testing.assert_close(gradient, torch.full_like(gradient, 0.5 * 8))


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_a_closed_form_has_the_temperature_of_the_loss(
    temperature: float, squared: bool, student: Tensor, teacher: Tensor
) -> None:
    objective = ForwardKL(temperature=temperature, temperature_squared=squared)
    rows, teacher = student.flatten(0, 1), teacher.flatten(0, 1)
    expected = objective.per_token_loss(rows, teacher, None)
    result = objective.value_and_grad(rows.detach(), teacher, None)
    assert result is not None
    torch.testing.assert_close(result[0], expected.detach())
    torch.testing.assert_close(result[1], torch.autograd.grad(expected.sum(), rows)[0])


def test_the_mean_of_each_sample_has_no_gradient(inputs: LossInputs) -> None:
    assert inputs.mask is not None
    mask = inputs.mask.clone()
    mask[1] = False
    partial = LossInputs(inputs.student, inputs.teacher, inputs.labels, mask)
    values = ForwardKL().per_sample_loss(partial)
    assert not values.requires_grad
    first = LossInputs(*(x.logits()[0][mask[0]] for x in (inputs.student, inputs.teacher)))  # type: ignore[union-attr]
    torch.testing.assert_close(values[0], ForwardKL()(first).mean().detach())
    assert values[1] == 0


def test_methods_that_are_missing_are_named(inputs: LossInputs) -> None:
    class NoLoss(TokenObjective):
        pass

    class NoDivergence(Divergence):
        pass

    with pytest.raises(NotImplementedError, match=r"NoLoss does not define per_token_loss\(\)"):
        NoLoss()(inputs)
    with pytest.raises(NotImplementedError, match=r"NoDivergence does not define divergence\(\)"):
        NoDivergence()(inputs)
