"""Networks made teachers, and the live ones among teachers found."""

from __future__ import annotations

from torch import nn

from kdlight.teachers.base import Teacher
from kdlight.teachers.frozen import FrozenTeacher


def as_teacher(teacher: nn.Module | Teacher | None) -> Teacher | None:
    """Wrap a network in a `FrozenTeacher`; return a teacher, or None, unchanged.

    Example:
        >>> type(as_teacher(nn.Linear(3, 5))).__name__
        'FrozenTeacher'
    """
    return teacher if teacher is None or isinstance(teacher, Teacher) else FrozenTeacher(teacher)


def frozen_teachers(teacher: Teacher | None) -> list[FrozenTeacher]:
    """Return the live teachers within ``teacher``.

    Example:
        >>> from kdlight import TeacherEnsemble
        >>> ensemble = TeacherEnsemble({"a": nn.Linear(3, 5), "b": nn.Linear(3, 5)})
        >>> len(frozen_teachers(ensemble))
        2
    """
    if teacher is None:
        return []
    if isinstance(teacher, FrozenTeacher):
        return [teacher]
    return [each for inner in teacher.teachers() for each in frozen_teachers(inner)]
