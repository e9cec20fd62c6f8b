"""Networks made teachers, and the live and the served ones among teachers found."""

from __future__ import annotations

from typing import Any

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


def remote_teachers(teacher: Teacher | None) -> list[Any]:
    """Return the teachers within ``teacher`` that servers run.

    Example:
        >>> remote_teachers(FrozenTeacher(nn.Linear(3, 5)))
        []
    """
    if teacher is None:
        return []
    inner = [*teacher.teachers()]
    if not inner:
        return [teacher] if teacher.is_remote else []
    return [each for part in inner for each in remote_teachers(part)]
