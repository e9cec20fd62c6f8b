"""A look at a run before it starts: what it will hold, and what stands in its way."""

from __future__ import annotations

from kdlight.doctor.examine import examine
from kdlight.doctor.findings import Finding
from kdlight.doctor.report import Report
from kdlight.doctor.setting import Setting

__all__ = ["Finding", "Report", "Setting", "examine"]
