"""LightningModules that train a student on a teacher."""

from __future__ import annotations

from kdlight.modules.accounting import StepResult
from kdlight.modules.distillation import DistillationModule, NonFiniteLossError

__all__ = ["DistillationModule", "NonFiniteLossError", "StepResult"]
