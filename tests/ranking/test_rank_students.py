"""Students are ranked without any of them being changed."""

from __future__ import annotations

import copy
import random
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kdlight import PrunedCausalLM, SingleInput
from kdlight.models.digits import ConvNet, TinyNet
from kdlight.ranking import rank_students
from tests.families.families import FAMILIES


def batch(n: int = 12) -> Tensor:
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def teacher() -> ConvNet:
    torch.manual_seed(0)
    return ConvNet(channels=8)


STUDENTS: dict[str, Any] = {"small": partial(ConvNet, channels=2), "tiny": TinyNet}


def test_the_teacher_scores_zero_and_is_first() -> None:
    net = teacher()
    ranking = rank_students(net, {**STUDENTS, "teacher": net}, batch(), repeats=2)
    assert ranking[0] == ("teacher", 0.0, 0.0, 0.0, 0.0, ranking[0].parameters, 1)
    assert [each.score for each in ranking] == sorted((e.score for e in ranking), reverse=True)
    assert all(each.score < 0 for each in ranking[1:])


def test_a_factory_of_the_teacher_is_the_teacher_at_every_initialization() -> None:
    make = partial(ConvNet, channels=8)
    ranking = rank_students(make, {"other": partial(ConvNet, channels=7), "same": make}, batch())
    assert ranking[0][:5] == ("same", 0.0, 0.0, 0.0, 0.0)
    assert ranking[1].std > 0


def test_the_score_is_minus_both_distances_averaged_over_initializations() -> None:
    net = teacher()
    (found,) = rank_students(net, {"a": TinyNet}, batch(), repeats=3, seed=5)
    single = [rank_students(net, {"a": TinyNet}, batch(), repeats=1, seed=s)[0] for s in (5, 6, 7)]
    scores = torch.tensor([each.score for each in single], dtype=torch.float64)
    assert found.score == pytest.approx(scores.mean().item())
    assert found.std == pytest.approx(scores.std().item())
    assert found.score == pytest.approx(-found.semantic - found.relation)
    assert (found.parameters, found.repeats) == (610, 3)
    assert len(set(scores.tolist())) == 3


def test_the_result_depends_on_the_seed_and_on_nothing_else() -> None:
    net = teacher()
    torch.manual_seed(1)
    first = rank_students(net, STUDENTS, batch(), repeats=2)
    torch.manual_seed(2)
    again = rank_students(net, dict(reversed(STUDENTS.items())), batch(), repeats=2)
    assert first == again
    (alone,) = rank_students(net, {"tiny": TinyNet}, batch(), repeats=2)
    assert alone in first
    assert first != rank_students(net, STUDENTS, batch(), repeats=2, seed=1)


def test_networks_and_random_states_are_untouched() -> None:
    net, student = teacher().eval(), ConvNet(channels=2)
    student[1].eval()
    for parameter in (*net.parameters(), *student.parameters()):
        parameter.grad = torch.ones_like(parameter)
    before = copy.deepcopy((net, student))
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[union-attr]
    rank_students(net, {**STUDENTS, "given": student}, batch(), repeats=2)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()  # type: ignore[index]
    assert random.getstate() == states[2]
    for ours, theirs in zip((net, student), before, strict=True):
        assert [m.training for m in ours.modules()] == [m.training for m in theirs.modules()]
        assert all(
            torch.equal(value, theirs.state_dict()[name])
            for name, value in ours.state_dict().items()
        )
        assert all(p.grad is not None and (p.grad == 1).all() for p in ours.parameters())


def test_modules_are_compared_once_and_paths_are_used() -> None:
    net, student = teacher(), ConvNet(channels=3)
    (found,) = rank_students(net, {"given": student}, batch())
    assert (found.repeats, found.std) == (1, 0.0)
    (earlier,) = rank_students(net, {"given": student}, batch(), student_paths={"given": "3"})
    (both,) = rank_students(
        net, {"given": net}, batch(), student_paths={"given": "3"}, teacher_path="3"
    )
    assert earlier.relation != found.relation
    assert both.score == 0.0


def test_batches_of_pairs_and_wrapped_networks() -> None:
    net = teacher()
    pairs = (batch(), torch.zeros(12))
    wrapped: dict[str, Any] = {"tiny": lambda: SingleInput(TinyNet())}
    (found,) = rank_students(SingleInput(net), wrapped, pairs)
    (bare,) = rank_students(net, {"tiny": TinyNet}, batch())
    assert found == bare
    with pytest.raises(TypeError, match="wrap|Wrap"):
        rank_students(net, {"tiny": TinyNet}, pairs)


def test_recipes_are_built_from_the_teacher() -> None:
    family = FAMILIES["llama"]
    model: Any = family.make(0)
    depth = model.config.num_hidden_layers
    students: dict[str, Any] = {
        "whole": PrunedCausalLM(list(range(depth))),
        "half": PrunedCausalLM([0]),
        "random": partial(family.make, 3),
    }
    ranking = rank_students(model, students, family.batch(0), repeats=1)
    assert [each.name for each in ranking] == ["whole", "half", "random"]
    assert ranking[0].score == pytest.approx(0.0, abs=1e-9)


class Numbers:
    """Not a network."""


@pytest.mark.parametrize(
    ("students", "options", "error", "message"),
    [
        ({}, {}, ValueError, "students must have at least one network"),
        ([TinyNet], {}, TypeError, "students must be a mapping"),
        ({"a": Numbers()}, {}, TypeError, r"students\['a'\] must be a module .* got Numbers"),
        ({"a": Numbers}, {}, TypeError, "factory 'a' must return a module, got Numbers"),
        ({"a": TinyNet}, {"repeats": 0}, ValueError, "repeats must be at least 1"),
        ({"a": TinyNet}, {"seed": -1}, ValueError, "seed must be at least 0"),
        ({"a": TinyNet}, {"student_paths": {"b": "1"}}, ValueError, r"student_paths has \['b'\]"),
        ({"a": TinyNet}, {"student_paths": {"a": "7"}}, ValueError, "student 'a': no module of"),
        ({"a": TinyNet}, {"teacher_path": "77"}, ValueError, "the teacher: no module of ConvNet"),
        ({"a": partial(TinyNet, classes=7)}, {}, ValueError, "student 'a': .* have 7 and 10"),
    ],
)
def test_wrong_arguments(students: Any, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        rank_students(teacher(), students, batch(), **options)


def test_what_a_ranking_needs() -> None:
    with pytest.raises(ValueError, match="at least 2 samples, .* got 1"):
        rank_students(teacher(), STUDENTS, batch(1))
    one = TinyNet()
    with pytest.raises(ValueError, match="factory 'a' returns the same module again"):
        rank_students(teacher(), {"a": lambda: one}, batch())
    with pytest.raises(TypeError, match="teacher must be a module or a function"):
        rank_students(PrunedCausalLM(1), STUDENTS, batch())  # type: ignore[arg-type]
    nan = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Linear(10, 10))
    with torch.no_grad():
        nan.get_parameter("1.weight").fill_(float("inf"))
    with pytest.raises(ValueError, match="student 'nan': features of Sequential are infinite"):
        rank_students(teacher(), {"nan": nan}, batch())
