"""Everything that happens over time: schedules, reports, exports. Import from kdlight.callbacks."""

from __future__ import annotations

from kdlight.callbacks.adaptive_taid import AdaptiveTAID
from kdlight.callbacks.distillation_report import Report
from kdlight.callbacks.exact_resume import ExactResume
from kdlight.callbacks.export import ExportStudent
from kdlight.callbacks.generation_samples import GenerationSamples
from kdlight.callbacks.hyperparameter_scheduler import HyperparameterScheduler
from kdlight.callbacks.on_policy import OnPolicy
from kdlight.callbacks.preemption import Preemption
from kdlight.callbacks.redi_guard import REDIGuard
from kdlight.callbacks.sequence_correction import SequenceCorrection
from kdlight.callbacks.teacher_first import TrainTeacherFirst
from kdlight.callbacks.temperature_scaling import TemperatureScaling

__all__ = [
    "AdaptiveTAID",
    "GenerationSamples",
    "ExactResume",
    "ExportStudent",
    "OnPolicy",
    "Preemption",
    "REDIGuard",
    "HyperparameterScheduler",
    "Report",
    "SequenceCorrection",
    "TemperatureScaling",
    "TrainTeacherFirst",
]
