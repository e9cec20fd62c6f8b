"""LightningModules that train a student on a teacher."""

from __future__ import annotations

from kdlight.modules.accounting import StepResult
from kdlight.modules.distillation import DistillationModule
from kdlight.modules.fsdp2 import FSDP2Strategy
from kdlight.modules.guards import NonFiniteLossError
from kdlight.modules.learner import Learner
from kdlight.modules.mixin import DistillationMixin
from kdlight.modules.online import OnlineDistillationModule
from kdlight.modules.taught import TaughtModule

__all__ = [
    "DistillationMixin",
    "DistillationModule",
    "FSDP2Strategy",
    "Learner",
    "NonFiniteLossError",
    "OnlineDistillationModule",
    "StepResult",
    "TaughtModule",
]
