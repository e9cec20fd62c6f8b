"""A loss that is redefined in any way is never evaluated by a shortcut of its parent."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor

from kdlight import Chunking
from kdlight.objectives import (
    DACKL,
    CrossEntropy,
    ForwardKL,
    LossInputs,
    Objective,
    SinkhornKD,
    ToDi,
    TokenObjective,
    Weighted,
)
from kdlight.objectives.redefined import is_redefined
from kdlight.objectives.sinkhorn import Sinkhorn
from kdlight.objectives.token_objective import GRADIENT_METHODS, closed_form
from kdlight.reduce import Loss
from tests.support.chunked_data import ProjectedData, assert_all_close


class Doubled(ForwardKL):
    def divergence(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        return 2 * super().divergence(student, teacher, labels)


class Mixin:
    def per_token_loss(self, *rows: Any) -> Tensor:
        return 3 * super().per_token_loss(*rows)  # type: ignore[misc]


class Mixed(Mixin, ToDi):
    pass


class OtherThresholds(DACKL):
    def _thresholds(self, *arguments: Any) -> Any:
        lower, upper = super()._thresholds(*arguments)
        return lower, upper * 0.9


class Scaled(Weighted):
    def per_token_loss(self, *rows: Any) -> Any:
        values, parts = super().per_token_loss(*rows)
        return 10 * values, parts


class OtherSinkhorn(Sinkhorn):
    def forward(self, inputs: LossInputs) -> Loss:
        loss = super().forward(inputs)
        return loss._replace(total=5 * loss.total)


class WithOwnGradient(ForwardKL):
    def divergence(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        return 2 * super().divergence(student, teacher, labels)

    def divergence_and_grad(self, *rows: Any) -> Any:
        values, grad = super().divergence_and_grad(*rows)
        return 2 * values, 2 * grad


class Beside(ForwardKL):
    """What a subclass may do without another loss."""

    def forward(self, inputs: LossInputs) -> Loss:
        return super().forward(inputs)

    def check(self, inputs: LossInputs) -> None:
        super().check(inputs)

    def extra_repr(self) -> str:
        return "beside"


def instance() -> ForwardKL:
    objective = ForwardKL()
    objective.divergence = lambda *rows: 7 * ForwardKL.divergence(objective, *rows)  # type: ignore[method-assign]
    return objective


def mixture(sinkhorn: Sinkhorn) -> Weighted:
    return Weighted({"ce": CrossEntropy(), "kd": ForwardKL(), "sinkhorn": sinkhorn})


CHANGED = {
    "subclass": Doubled,
    "mixin": Mixed,
    "private": OtherThresholds,
    "object": instance,
    "mixture": lambda: Scaled({"kd": ForwardKL()}, {"kd": 0.5}),
    "term": lambda: Weighted({"kd": Doubled(), "ce": CrossEntropy()}),
    "coupled term": lambda: mixture(OtherSinkhorn()),
}


@pytest.mark.parametrize("kind", CHANGED)
def test_a_redefined_loss_is_the_same_in_chunks_and_at_once(kind):
    data, objective = ProjectedData(), CHANGED[kind]().double()
    assert_all_close(data.evaluate(objective, Chunking(16, 3)), data.evaluate(objective, False))


@pytest.mark.parametrize(
    ("objective", "is_used"),
    [
        (ForwardKL(), True),
        (Beside(), True),
        (WithOwnGradient(), True),
        (SinkhornKD(), True),
        (Doubled(), False),
        (Mixed(), False),
        (instance(), False),
        (Scaled({"kd": ForwardKL()}), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_closed_form_is_used_where_it_is_that_of_the_loss(objective, is_used):
    assert (closed_form(objective) is not None) == is_used


def test_rows_are_shared_by_the_class_that_describes_them():
    assert not is_redefined(Sinkhorn(), "row_problems")
    assert is_redefined(OtherSinkhorn(), "row_problems")


def test_an_objective_without_a_closed_form_has_none_to_inherit():
    class Own(TokenObjective):
        def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
            return student.square().sum(-1)

    assert is_redefined(Own(), *GRADIENT_METHODS)
    assert closed_form(Objective()) is None
