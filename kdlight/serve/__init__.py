"""A teacher behind a URL: other processes and machines train on it."""

from __future__ import annotations

import kdlight.serve.packages  # noqa: F401  # first, as it says what is not installed
from kdlight.serve.limits import Limits
from kdlight.serve.served_teacher import ServedTeacher
from kdlight.serve.server import TeacherServer

__all__ = ["Limits", "ServedTeacher", "TeacherServer"]
