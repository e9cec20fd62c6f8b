"""Everything that happens over time: schedules, reports, exports. Import from kdlight.callbacks."""

from __future__ import annotations

from kdlight.callbacks.adaptive_taid import AdaptiveTAID
from kdlight.callbacks.continuations import Continuations
from kdlight.callbacks.exact_resume import ExactResume
from kdlight.callbacks.export import ExportStudent
from kdlight.callbacks.preemption import Preemption
from kdlight.callbacks.ramp import Ramp
from kdlight.callbacks.report import Report
from kdlight.callbacks.teacher_first import TrainTeacherFirst

__all__ = [
    "AdaptiveTAID",
    "Continuations",
    "ExactResume",
    "ExportStudent",
    "Preemption",
    "Ramp",
    "Report",
    "TrainTeacherFirst",
]
