"""The module that a callback of distillation needs."""

from __future__ import annotations

from lightning.pytorch import LightningModule

from kdlight.modules.base import DistillationBase
from kdlight.modules.inputs import LossInputsModule


def check_module(callback: str, module: LightningModule) -> DistillationBase:
    """Return a module that has a student.

    Args:
        callback: name of the callback that needs it.
        module: the module of the run.

    Raises:
        ValueError: It is no module of kdlight, and has no mixin.

    Example:
        >>> check_module("SolveRate", LightningModule())
        Traceback (most recent call last):
        ValueError: SolveRate needs a kdlight.DistillationModule, an OnlineDistillationModule or ...
    """
    if not isinstance(module, DistillationBase):
        raise ValueError(
            f"{callback} needs a kdlight.DistillationModule, an OnlineDistillationModule or a"
            f" module with the kdlight.DistillationMixin, got {type(module).__name__}"
        )
    return module


def check_student_logits(callback: str, module: DistillationBase) -> None:
    """Raise a ValueError for a module whose student cannot be run outside of its training step.

    Example:
        >>> from kdlight.modules import DistillationModule
        >>> from kdlight.objectives import CrossEntropy
        >>> from torch import nn
        >>> module = DistillationModule(nn.Linear(2, 3), CrossEntropy())
        >>> check_student_logits("BilevelUpdate", module)
    """
    if type(module).student_logits is LossInputsModule.student_logits:
        raise ValueError(
            f"{callback} runs the student by itself, but {type(module).__name__} only returns its"
            " logits from training_step; define student_logits(self, batch), such as `return"
            " self(batch[0])`"
        )
