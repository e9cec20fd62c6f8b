"""LightningModules that train a student on a teacher."""

from __future__ import annotations

from kdlight.modules.accounting import StepResult
from kdlight.modules.checks import NonFiniteLossError
from kdlight.modules.distillation import DistillationModule
from kdlight.modules.fsdp2 import FSDP2Strategy

__all__ = ["DistillationModule", "FSDP2Strategy", "NonFiniteLossError", "StepResult"]
