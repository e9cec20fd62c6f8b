"""Callbacks: schedules, generated text, resuming, reports and exports."""

from __future__ import annotations

from kdlight.callbacks.adaptive_taid import AdaptiveTAID
from kdlight.callbacks.bilevel_update import BilevelUpdate
from kdlight.callbacks.calibrate_teacher_first import CalibrateTeacherFirst
from kdlight.callbacks.distillation_report import DistillationReport
from kdlight.callbacks.domain_reweighting import DomainReweighting
from kdlight.callbacks.elastic_depth import ElasticDepth
from kdlight.callbacks.exact_resume import ExactResume
from kdlight.callbacks.export_student import ExportStudent
from kdlight.callbacks.generation_samples import GenerationSamples
from kdlight.callbacks.hyperparameter_scheduler import HyperparameterScheduler
from kdlight.callbacks.on_policy import OnPolicy
from kdlight.callbacks.pitch_accuracy import PitchAccuracy
from kdlight.callbacks.prediction_writer import PredictionWriter
from kdlight.callbacks.preemption import Preemption
from kdlight.callbacks.redi_guard import REDIGuard
from kdlight.callbacks.round_recipes.budgeted import BudgetedRound
from kdlight.callbacks.round_recipes.competitive import CompetitiveRound
from kdlight.callbacks.round_recipes.recipe import RoundRecipe
from kdlight.callbacks.round_recipes.self_imitation import SelfImitationRound
from kdlight.callbacks.rounds import Rounds
from kdlight.callbacks.sequence_correction import SequenceCorrection
from kdlight.callbacks.solve_rate import SolveRate
from kdlight.callbacks.temperature_scaling import TemperatureScaling
from kdlight.callbacks.train_layers_first import TrainLayersFirst
from kdlight.callbacks.train_masks_first import TrainMasksFirst
from kdlight.callbacks.train_tasks_first import TrainTasksFirst
from kdlight.callbacks.train_teacher_first import TrainTeacherFirst

__all__ = [
    "AdaptiveTAID",
    "BilevelUpdate",
    "BudgetedRound",
    "CalibrateTeacherFirst",
    "CompetitiveRound",
    "DistillationReport",
    "DomainReweighting",
    "ElasticDepth",
    "ExactResume",
    "ExportStudent",
    "GenerationSamples",
    "HyperparameterScheduler",
    "OnPolicy",
    "PitchAccuracy",
    "PredictionWriter",
    "Preemption",
    "REDIGuard",
    "RoundRecipe",
    "Rounds",
    "SelfImitationRound",
    "SequenceCorrection",
    "SolveRate",
    "TemperatureScaling",
    "TrainLayersFirst",
    "TrainMasksFirst",
    "TrainTasksFirst",
    "TrainTeacherFirst",
]
