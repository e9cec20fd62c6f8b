"""Networks become teachers, and the live ones are found within others."""

from __future__ import annotations

from torch import nn

from kdlight import FrozenTeacher, SelectiveTeacher, TeacherEnsemble
from kdlight.teachers import as_teacher, frozen_teachers


def test_networks_are_wrapped_and_teachers_are_not() -> None:
    network = nn.Linear(3, 4)
    teacher = as_teacher(network)
    assert isinstance(teacher, FrozenTeacher)
    assert teacher.model is network
    assert as_teacher(teacher) is teacher
    assert as_teacher(None) is None


def test_live_teachers_are_found_within_others() -> None:
    first, second = FrozenTeacher(nn.Linear(3, 4)), FrozenTeacher(nn.Linear(3, 4))
    ensemble = TeacherEnsemble({"a": SelectiveTeacher(first), "b": second})
    assert frozen_teachers(ensemble) == [first, second]
    assert frozen_teachers(None) == []
