"""Arguments of a wrong kind are refused by name, when a module is made."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from kdlight import DistillationModule, Learner, OnlineDistillationModule, SingleInput
from kdlight.objectives import CrossEntropy, ForwardKL
from tests.support.own_module import Distilled, net


def student() -> SingleInput:
    return SingleInput(nn.Linear(4, 3))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a class": ({"objective": ForwardKL}, r"objective must be an Objective, got the class Forw"),
    "no objective": ({"objective": None}, "objective must be an Objective, got NoneType"),
    "a function": ({"objective": len}, "objective must be an Objective, got builtin_function"),
    "student": ({"student": "gpt2"}, "student must be a torch.nn.Module, got str"),
    "student class": ({"student": nn.Linear}, r"got the class Linear; create one: Linear\(\)"),
    "teacher": ({"teacher": "gpt2"}, "teacher must be a network or a Teacher, got str"),
    "teacher class": ({"teacher": nn.Linear}, "teacher must be .* got the class Linear"),
    "chunked": ({"chunked": "yes"}, "chunked must be True, False, 'auto' or a Chunking, got 'yes'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_argument_of_the_wrong_kind_is_refused(case: str) -> None:
    arguments, message = WRONG[case]
    options = {"student": student(), "objective": CrossEntropy(), **arguments}
    with pytest.raises(TypeError, match=message):
        DistillationModule(**options)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("labels", "shifted", "labels must be one of 'auto', 'causal', 'aligned', 'none', got"),
        ("ignore_index", 0.5, "ignore_index must be an integer, got 0.5"),
        ("normalization", "mean", "normalization must be one of 'global', 'local', got 'mean'"),
    ],
)
def test_a_wrong_value_is_refused_by_all_modules(name: str, value: Any, message: str) -> None:
    option = {name: value}
    with pytest.raises(ValueError, match=message):
        DistillationModule(student(), CrossEntropy(), **option)
    with pytest.raises(ValueError, match=message):
        Distilled().distill(ForwardKL(), net(9, seed=2), **option)
    with pytest.raises(ValueError, match=message):
        OnlineDistillationModule(
            {n: Learner(student(), CrossEntropy()) for n in ("student", "teacher")}, **option
        )


def test_the_mixin_checks_its_arguments() -> None:
    with pytest.raises(TypeError, match="teacher must be a network or a Teacher, got str"):
        Distilled().distill(ForwardKL(), "gpt2")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="task_weight must be 0 or above and finite, got nan"):
        Distilled().distill(ForwardKL(), net(9, seed=2), task_weight=float("nan"))
