"""The networks of online distillation, and arguments that do not fit."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from kdlight import FrozenTeacher, Learner, OnlineDistillationModule, SingleInput
from kdlight.objectives import CrossEntropy, ForwardKL
from tests.support import toy


def make_learners(**networks: Any) -> dict[str, Learner]:
    """Return learners by name; None stands for a new network."""
    return {
        name: Learner(SingleInput(nn.Linear(4, 3)) if each is None else each, CrossEntropy())
        for name, each in networks.items()
    }


SHARED = SingleInput(nn.Linear(4, 3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: OnlineDistillationModule(make_learners(student=None)),
            "at least two .* got .'student'.",
        ),
        (lambda: OnlineDistillationModule(make_learners(a=None, b=None)), "must have a 'student'"),
        (
            lambda: OnlineDistillationModule(make_learners(student=None, trainer=None)),
            "called 'trainer'",
        ),
        (
            lambda: OnlineDistillationModule(make_learners(student=None, metrics=None)),
            "called 'metrics'",
        ),
        (
            lambda: OnlineDistillationModule(make_learners(student=None, **{"a.b": None})),
            "called 'a.b'",
        ),
        (
            lambda: OnlineDistillationModule(make_learners(student=SHARED, teacher=SHARED)),
            "'student' and 'teacher' share parameters",
        ),
        (
            lambda: OnlineDistillationModule(
                make_learners(student=None, teacher=None),
                updates="random",  # type: ignore[arg-type]
            ),
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
