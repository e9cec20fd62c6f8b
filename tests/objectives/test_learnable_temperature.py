"""CTKD: the learned temperature, its reversed gradient, and a published implementation."""

from __future__ import annotations

import json
from math import cos, exp, pi
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from kdlight.objectives import (
    TAID,
    Divergence,
    ForwardKL,
    LearnableTemperature,
    LossInputs,
    ReverseKL,
)
from tests.support.objectives import check_refused, grad


def test_the_start_sets_the_first_temperature(inputs: LossInputs) -> None:
    objective = LearnableTemperature(low=2.0, span=4.0, start=0.0)
    assert objective.temperature == 4.0
    loss = objective(inputs)
    assert loss.parts["temperature"] / loss.count == 4.0
    assert loss.total == ForwardKL(temperature=4.0)(inputs).total
    torch.testing.assert_close(grad(loss, inputs), grad(ForwardKL(temperature=4.0)(inputs), inputs))


def g_grad(objective: LearnableTemperature, inputs: LossInputs) -> float:
    """The gradient of the loss in the parameter g."""
    (gradient,) = torch.autograd.grad(objective(inputs).mean(), objective.g)
    return gradient.item()


@pytest.mark.parametrize("kind", [ForwardKL, ReverseKL])
@pytest.mark.parametrize("square_hidden", [True, False])
def test_the_gradient_of_the_temperature_is_reversed(
    kind: type[Divergence], square_hidden: bool, inputs: LossInputs
) -> None:
    g, h = 0.3, 1e-5

    def value(g: float) -> Tensor:
        temperature = 1 + 20 / (1 + exp(-g))
        divergence = kind(temperature=temperature, temperature_squared=False)(inputs).mean()
        factor = 1 + 20 / (1 + exp(-0.3)) if square_hidden else temperature
        return divergence * factor**2

    objective = LearnableTemperature(
        kind(), start=g, strength=0.7, square_hidden=square_hidden
    ).double()
    torch.nn.init.constant_(objective.g, g)  # not rounded to float32
    expected = -0.7 * (value(g + h) - value(g - h)) / (2 * h)
    assert g_grad(objective, inputs) == pytest.approx(expected.item(), rel=1e-5)


def test_the_temperature_is_not_trained_at_strength_zero(inputs: LossInputs) -> None:
    objective = LearnableTemperature(strength=0.0)
    assert g_grad(objective, inputs) == 0
    objective.strength = 1.0
    assert g_grad(objective, inputs) != 0


@pytest.mark.parametrize(("square_hidden", "harder"), [(True, True), (False, False)])
def test_the_factor_would_raise_the_loss_without_a_harder_task(
    square_hidden: bool, harder: bool, inputs: LossInputs
) -> None:
    objective = LearnableTemperature(square_hidden=square_hidden)
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.5)
    before = objective.temperature
    for _ in range(20):
        optimizer.zero_grad()
        objective(inputs).mean().backward()
        optimizer.step()
    # a low temperature makes differences larger, a high one makes only the factor larger
    assert (objective.temperature < before) is harder
    one = ForwardKL(temperature=before, temperature_squared=False)(inputs).total
    other = ForwardKL(temperature=objective.temperature, temperature_squared=False)(inputs).total
    assert bool(other > one) is harder


def test_forbidden_columns_leave_the_learned_temperature_finite(inputs: LossInputs) -> None:
    columns = torch.zeros(7, dtype=torch.float64)
    columns[2] = -torch.inf
    teacher = inputs.teacher.logits()  # type: ignore[union-attr]
    objective = LearnableTemperature()
    inside = [0, 1, 3, 4, 5, 6]
    forbidden = LossInputs(inputs.student.logits() + columns, teacher + columns)
    without = LossInputs(inputs.student.logits()[..., inside], teacher[..., inside])
    assert g_grad(objective, forbidden) == pytest.approx(g_grad(objective, without), rel=1e-6)
    for lowest in (torch.finfo(torch.float32).min, torch.finfo(torch.float64).min):
        padded = torch.nan_to_num(columns, neginf=lowest)
        padded_inputs = LossInputs(inputs.student.logits() + padded, teacher + padded)
        assert g_grad(objective, padded_inputs) == pytest.approx(
            g_grad(objective, without), rel=1e-6
        )


def test_the_objective_is_a_divergence_at_temperature_1() -> None:
    with pytest.raises(ValueError, match="must have a temperature of 1, .*got 4"):
        LearnableTemperature(ForwardKL(temperature=4.0))
    with pytest.raises(TypeError, match="an instance of Divergence, got a value of type TAID"):
        LearnableTemperature(TAID())  # type: ignore[arg-type]


def test_wrong_numbers_are_refused() -> None:
    check_refused(LearnableTemperature, low=0.0)
    check_refused(LearnableTemperature, span=-1.0)
    check_refused(LearnableTemperature, start=float("nan"))
    check_refused(LearnableTemperature, strength=-1.0)


CTKD = sorted((Path(__file__).parents[1] / "conformance" / "ctkd").glob("*.safetensors"))


def test_all_vectors_of_ctkd_are_there() -> None:
    assert len(CTKD) == 3


@pytest.mark.parametrize("path", CTKD, ids=lambda path: path.stem)
def test_the_learned_temperature_agrees_with_a_published_one(path: Path) -> None:
    # Its value is a cross-entropy, so the entropy of the tempered teacher is added here, to the
    # value and to the gradient of the temperature. Its factor of that gradient goes from +1 to 0 by
    # default (never reversed, a bug), and from -1 to 0 with the sign of the paper. That of kdlight
    # is -strength.
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        chosen = json.loads(file.metadata()["meta"])["hparams"]
    low, high = chosen.get("lambda_min", 0), chosen.get("lambda_max", 1)
    their_factor = (1 + cos(pi * (chosen["current_epoch"] + 1) / 10)) / 2 * (high - low) + low
    student = tensors["student_logits"].requires_grad_()
    teacher, mask = tensors["teacher_logits"], tensors["labels"] != -100

    objective = LearnableTemperature(square_hidden=False).double()
    torch.nn.init.constant_(objective.g, chosen["global_temperature"])
    loss = objective(LossInputs(student, teacher, mask=mask)).mean()
    temperature = 1 + 20 * objective.g.sigmoid().squeeze()
    entropy = torch.special.entr((teacher[mask] / temperature).softmax(-1)).sum(-1).mean()
    entropy = entropy * temperature**2

    torch.testing.assert_close(loss + entropy, tensors["expected_loss"], rtol=1e-6, atol=0)
    (of_student,) = torch.autograd.grad(loss, student, retain_graph=True)
    torch.testing.assert_close(of_student, tensors["expected_grad"], rtol=1e-6, atol=1e-10)
    g_gradient = -torch.autograd.grad(loss, objective.g, retain_graph=True)[0]  # strength is 1
    g_gradient = (g_gradient + torch.autograd.grad(entropy, objective.g)[0]).squeeze()
    torch.testing.assert_close(
        their_factor * g_gradient, tensors["expected_grad_global_temperature"], rtol=1e-6, atol=0
    )
