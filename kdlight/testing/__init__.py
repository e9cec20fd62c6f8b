"""Laws: properties that objectives and schedules must have, for your own tests, without pytest."""

from __future__ import annotations

from kdlight.testing.check import LAWS, check_objective, examine_objective
from kdlight.testing.report import Deviation, Finding, Report, worst
from kdlight.testing.sample import Sample
from kdlight.testing.schedules import SCHEDULE_LAWS, check_schedule

__all__ = [
    "LAWS",
    "SCHEDULE_LAWS",
    "Deviation",
    "Finding",
    "Report",
    "Sample",
    "check_objective",
    "check_schedule",
    "examine_objective",
    "worst",
]
