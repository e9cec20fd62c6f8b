"""The module that a callback of distillation needs."""

from __future__ import annotations

from lightning.pytorch import LightningModule

from kdlight.modules.base import DistillationBase


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
