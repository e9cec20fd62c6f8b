"""Metrics with a state of constant size: agreement with the teacher, and calibration."""

from __future__ import annotations

from kdlight.metrics.adaptive import AdaptiveCalibrationError
from kdlight.metrics.calibration import (
    CalibrationError,
    ExpectedCalibrationError,
    MaximumCalibrationError,
    predictions,
)
from kdlight.metrics.distillation import DistillationMetrics
from kdlight.metrics.scores import BrierScore, NegativeLogLikelihood
from kdlight.metrics.teachers import TeacherMetrics
from kdlight.metrics.tempering import TemperatureCurve

__all__ = [
    "AdaptiveCalibrationError",
    "BrierScore",
    "CalibrationError",
    "DistillationMetrics",
    "ExpectedCalibrationError",
    "MaximumCalibrationError",
    "NegativeLogLikelihood",
    "TeacherMetrics",
    "TemperatureCurve",
    "predictions",
]
