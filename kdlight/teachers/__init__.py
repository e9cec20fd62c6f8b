"""Teachers: callables from a batch to a logits source, held outside the module tree."""

from __future__ import annotations

from kdlight.teachers.base import Teacher, TeacherBase, live_teachers
from kdlight.teachers.frozen import FrozenTeacher
from kdlight.teachers.pool import TeacherPool
from kdlight.teachers.selective import SelectiveTeacher

__all__ = [
    "FrozenTeacher",
    "SelectiveTeacher",
    "Teacher",
    "TeacherBase",
    "TeacherPool",
    "live_teachers",
]
