"""Student and teacher of modules of every kind."""

from __future__ import annotations

from torch import nn

from kdlight.doctor.module_parts import student_part, teacher_part
from tests.support import online_fit, toy


def test_parts_of_each_kind_of_module() -> None:
    alone, online, mixed = toy.module(), online_fit.module(networks=2), toy.mixed()
    assert student_part(alone) is alone.student
    assert teacher_part(alone) is alone.teacher.networks()[0]  # type: ignore[union-attr]
    assert student_part(online) is online.student
    assert teacher_part(online) is online.parts()["teacher"]
    assert student_part(mixed) is mixed.student
    assert teacher_part(mixed) is mixed.teacher.networks()[0]  # type: ignore[union-attr]


def test_a_module_that_does_not_tell_its_network_is_taken_as_a_whole() -> None:
    mixed = toy.mixed()
    mixed.other = nn.Linear(2, 2)
    assert student_part(mixed) is mixed
