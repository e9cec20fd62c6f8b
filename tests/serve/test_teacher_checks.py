"""Which teachers can be served, and what is said about the others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from kdlight import FrozenTeacher, SelectiveTeacher, TeacherEnsemble
from kdlight.serve.teacher_checks import check_answer, check_servable, check_states
from kdlight.sources import Dense, Projected, TopK
from kdlight.teachers import Teacher


class Uniform(Teacher):
    def answer(self, batch: Any, student: Any = None, labels: Any = None) -> Dense:
        return Dense(torch.zeros(*batch["input_ids"].shape, 5))


def linear() -> nn.Module:
    return nn.Linear(2, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: None, "there is no teacher to serve"),
        (Uniform, "only a teacher that runs a network can be served, got a Uniform"),
        (
            lambda: FrozenTeacher(linear(), temperature=2.0),
            "temperature 2.0; set the temperature of the RemoteTeacher",
        ),
        (
            lambda: TeacherEnsemble({"a": FrozenTeacher(linear(), temperature=3.0)}),
            "a teacher of temperature 3.0",
        ),
        (lambda: FrozenTeacher(linear(), shard=True), "set shard=False"),
        (lambda: SelectiveTeacher(linear()), "SelectiveTeacher answers from the student's logits"),
        (
            lambda: TeacherEnsemble({"a": linear()}, weigh_by="confidence"),
            "TeacherEnsemble with these options reads the labels",
        ),
    ],
)
def test_a_teacher_that_cannot_be_served_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_servable(make())


def test_a_network_and_an_ensemble_can_be_served() -> None:
    assert isinstance(check_servable(linear()), FrozenTeacher)
    ensemble = TeacherEnsemble({"a": linear(), "b": linear()}, weigh_by="entropy")
    assert check_servable(ensemble) is ensemble


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Dense(torch.zeros(1, 5)), r"shape \(1, 5\) for 3 tokens"),
        (Dense(torch.zeros(1, 2, 5)), r"shape \(1, 2, 5\) for 3 tokens"),
        (TopK.of(torch.zeros(1, 3, 5), 2), "a part of its logits only"),
    ],
)
def test_logits_that_are_not_one_row_a_token_are_refused(source: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_answer(source, "a model", 3)


def test_states_need_an_output_head() -> None:
    assert check_states(Projected(torch.zeros(1, 2), nn.Linear(2, 3)), "a model")
    with pytest.raises(ValueError, match="but a model returns Dense logits; leave out --states"):
        check_states(Dense(torch.zeros(1, 3)), "a model")
