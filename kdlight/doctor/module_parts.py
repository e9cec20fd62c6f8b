"""The networks of any module of kdlight, also of one with the mixin."""

from __future__ import annotations

from typing import Any

from torch import nn

from kdlight.modules import StandaloneModule
from kdlight.modules.base import DistillationBase


def student_part(module: DistillationBase) -> nn.Module:
    """Return the network that is trained; the module itself if it does not tell.

    Example:
        >>> from kdlight import DistillationModule, SingleInput
        >>> from kdlight.objectives import CrossEntropy
        >>> module = DistillationModule(SingleInput(nn.Linear(4, 3)), CrossEntropy())
        >>> student_part(module) is module.student
        True
    """
    network = module.known_student()
    return module if network is None else network


def teacher_part(module: DistillationBase) -> Any:
    """Return the network of the teacher if there is one, else the teacher, which may be None."""
    if isinstance(module, StandaloneModule):
        return module.parts()["teacher"]
    networks = [] if module.teacher is None else module.teacher.networks()
    return networks[0] if len(networks) == 1 else module.teacher
