"""The networks of online distillation, and arguments that do not fit."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from kdlight import FrozenTeacher, Learner, OnlineDistillationModule, SingleInput
from kdlight.objectives import CrossEntropy, ForwardKL
from tests.support import toy


def pair(**names: Any) -> dict[str, Learner]:
    return {
        name: Learner(SingleInput(nn.Linear(4, 3)) if net is None else net, CrossEntropy())
        for name, net in names.items()
    }


SHARED = SingleInput(nn.Linear(4, 3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OnlineDistillationModule(pair(student=None)), "at least two .* got .'student'."),
        (lambda: OnlineDistillationModule(pair(a=None, b=None)), "must have a 'student'"),
        (lambda: OnlineDistillationModule(pair(student=None, trainer=None)), "called 'trainer'"),
        (lambda: OnlineDistillationModule(pair(student=None, metrics=None)), "called 'metrics'"),
        (lambda: OnlineDistillationModule(pair(student=None, **{"a.b": None})), "called 'a.b'"),
        (
            lambda: OnlineDistillationModule(pair(student=SHARED, teacher=SHARED)),
            "'student' and 'teacher' share parameters",
        ),
        (
            lambda: OnlineDistillationModule(pair(student=None, teacher=None), updates="random"),  # type: ignore[arg-type]
            "'simultaneous' or 'alternating', got 'random'",
        ),
        (lambda: Learner(SHARED, CrossEntropy(), clip=0.0), "clip must be above 0 .* got 0.0"),
        (lambda: Learner(SHARED, CrossEntropy(), group={"params": []}), "leave them out"),
    ],
)
def test_invalid_learners_raise(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_frozen_teacher_is_no_learner() -> None:
    frozen: Any = FrozenTeacher(toy.ToyLM())
    with pytest.raises(TypeError, match="network must be a torch.nn.Module .* got FrozenTeacher"):
        Learner(frozen, ForwardKL())
