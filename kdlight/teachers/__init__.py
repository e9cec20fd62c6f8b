"""Teachers: from a batch to a logits source, held outside of the module tree."""

from __future__ import annotations

from kdlight.teachers.base import Teacher
from kdlight.teachers.conversion import as_teacher, frozen_teachers, remote_teachers
from kdlight.teachers.ensemble import TeacherEnsemble
from kdlight.teachers.frozen import FrozenTeacher
from kdlight.teachers.masked import MaskedTeacher
from kdlight.teachers.selective import SelectiveTeacher
from kdlight.teachers.sharing import check_shared
from kdlight.teachers.specialized import SpecializedTeachers

__all__ = [
    "FrozenTeacher",
    "MaskedTeacher",
    "SelectiveTeacher",
    "SpecializedTeachers",
    "Teacher",
    "TeacherEnsemble",
    "as_teacher",
    "check_shared",
    "frozen_teachers",
    "remote_teachers",
]
