"""A network that a module trains, by its name, and what is known of its run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from kdlight.modules import StandaloneModule
from kdlight.modules.base import DistillationBase
from kdlight.modules.checkpoint_metadata import describe_run


def find_network(module: DistillationBase, name: str) -> nn.Module:
    """Return a network that a module trains by its name, such as ``"student"``.

    Raises:
        ValueError: If the module trains no network of that name.

    Example:
        >>> from kdlight import DistillationModule, SingleInput
        >>> from kdlight.objectives import CrossEntropy
        >>> student = SingleInput(nn.Linear(4, 3))
        >>> module = DistillationModule(student=student, objective=CrossEntropy())
        >>> find_network(module, "teacher")
        Traceback (most recent call last):
        ValueError: network must be one of ['student'], got 'teacher' (the teacher is not trained)
    """
    networks = ["student", *getattr(module, "peers", [])]
    if name not in networks:
        note = " (the teacher is not trained)" if networks == ["student"] else ""
        raise ValueError(f"network must be one of {networks}, got {name!r}{note}")
    return module.student_network() if name == "student" else getattr(module, name)


def describe_module(module: DistillationBase) -> dict[str, Any]:
    """Return the description of a run, for a model card.

    Example:
        >>> from kdlight import DistillationModule, SingleInput
        >>> from kdlight.objectives import CrossEntropy
        >>> student = SingleInput(nn.Linear(4, 3))
        >>> describe_module(DistillationModule(student, CrossEntropy()))["objective"]
        'CrossEntropy'
    """
    if isinstance(module, StandaloneModule):
        return module.describe_run()
    parts = {
        "student": module.student_network(),
        "teacher": module.teacher,
        "objective": module.objective,
    }
    return describe_run(parts, {}, module._trainer)


def describe_network(run: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the description of a run with another of its networks as the student.

    Example:
        >>> describe_network({"student": "small", "teacher": "large", "data": "text"}, "teacher")
        {'student': 'large', 'data': 'text'}
    """
    if name == "student":
        return dict(run)
    others = ("teacher", "objective", "metrics")
    return {k: v for k, v in run.items() if k not in others} | {"student": run.get(name)}
