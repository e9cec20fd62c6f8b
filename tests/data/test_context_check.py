"""Sequences are compared with the context of every network that gets them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kdlight import DistillationModule, OnlineDistillationModule
from kdlight.data.context_check import check_contexts, networks
from kdlight.modules import Learner
from kdlight.objectives import CrossEntropy, ForwardKL
from kdlight.teachers import TeacherEnsemble
from tests.support import toy


def check(module: Any, length: int, **options: Any) -> None:
    trainer = SimpleNamespace(lightning_module=module)
    check_contexts(trainer, lambda name: length, what="it", argument="size", **options)


def with_teachers(*contexts: int) -> DistillationModule:
    teachers: list[Any] = [toy.llama() for _ in contexts]
    for teacher, context in zip(teachers, contexts, strict=True):
        teacher.model.config.max_position_embeddings = context
    return DistillationModule(
        student=toy.llama(),
        teacher=TeacherEnsemble(dict(zip("ab", teachers, strict=False))),
        objective=ForwardKL(),
    )


def test_student_and_every_teacher_are_checked() -> None:
    module = with_teachers(64, 32)
    assert [name for name, _ in networks(module)] == ["student", "teacher", "teacher"]
    check(module, 32)
    with pytest.raises(
        ValueError, match="it has 33 tokens, .* of the teacher is 32; set size to 32"
    ):
        check(module, 33)
    with pytest.raises(ValueError, match="context of the student is 64"):
        check(with_teachers(128), 65)


def test_every_network_of_online_distillation_is_checked() -> None:
    learners = {
        "student": Learner(toy.llama(), CrossEntropy()),
        "other": Learner(toy.llama(seed=1), CrossEntropy()),
    }
    learners["other"].network.model.config.max_position_embeddings = 32  # type: ignore
    with pytest.raises(ValueError, match="context of the other is 32"):
        check(OnlineDistillationModule(learners), 33)


def test_nothing_is_measured_within_the_limit() -> None:
    def fail(name: str) -> int:
        raise AssertionError(name)

    trainer = SimpleNamespace(lightning_module=with_teachers(64))
    check_contexts(trainer, fail, what="it", argument="size", limit=64)
    check_contexts(None, fail, what="it", argument="size")
    check(DistillationModule(student=toy.ToyLM(), objective=CrossEntropy(), teacher=None), 10**6)
