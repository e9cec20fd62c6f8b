"""LightningModules that train a student on a teacher, and the normalization of their gradients."""

from __future__ import annotations

from kdlight.modules.base import DistillationBase
from kdlight.modules.distillation import DistillationModule
from kdlight.modules.gradient_normalizer import GradientNormalizer, StepResult
from kdlight.modules.guards import NonFiniteLossError
from kdlight.modules.layerwise import LayerwiseDistillationModule
from kdlight.modules.learner import Learner
from kdlight.modules.mixin import DistillationMixin
from kdlight.modules.online import OnlineDistillationModule
from kdlight.modules.optimizers import PartitionedOptimizer
from kdlight.modules.standalone import StandaloneModule

__all__ = [
    "DistillationBase",
    "DistillationMixin",
    "DistillationModule",
    "GradientNormalizer",
    "LayerwiseDistillationModule",
    "Learner",
    "NonFiniteLossError",
    "OnlineDistillationModule",
    "PartitionedOptimizer",
    "StandaloneModule",
    "StepResult",
]
