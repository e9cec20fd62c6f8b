"""Checks of a run before it starts: the memory that each rank needs, and errors in its setup."""

from __future__ import annotations

from kdlight.doctor.examine import examine
from kdlight.doctor.findings import Finding
from kdlight.doctor.report import Report
from kdlight.doctor.run_environment import RunEnvironment

__all__ = ["Finding", "Report", "RunEnvironment", "examine"]
