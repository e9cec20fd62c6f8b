"""Metrics with constant-size state: closeness to the teacher, and calibration."""

from __future__ import annotations

from kdlight.metrics.calibration import ExpectedCalibrationError
from kdlight.metrics.distillation import DistillationMetrics

__all__ = ["DistillationMetrics", "ExpectedCalibrationError"]
