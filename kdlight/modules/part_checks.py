"""Check the kinds of the parts that a module is made of, when it is made."""

from __future__ import annotations

from typing import Any

from torch import nn

from kdlight.objectives import Objective
from kdlight.reduce import Chunking
from kdlight.teachers import Teacher


def check_parts(objective: Any, chunked: Any) -> None:
    """Raise a TypeError for arguments of the wrong kind.

    Example:
        >>> from kdlight.objectives import ForwardKL
        >>> check_parts(ForwardKL, "auto")
        Traceback (most recent call last):
        TypeError: objective must be an Objective, got the class ForwardKL; create one: ForwardKL()
    """
    _check("objective", objective, Objective, "an Objective")
    if not (chunked in (True, False, "auto") or isinstance(chunked, Chunking)):
        raise TypeError(f"chunked must be True, False, 'auto' or a Chunking, got {chunked!r}")


def check_network(name: str, network: Any) -> None:
    """Raise a TypeError for a student that is no network."""
    _check(name, network, nn.Module, "a torch.nn.Module")


def check_teacher(teacher: Any) -> None:
    """Raise a TypeError for a teacher that is neither a teacher nor callable."""
    if teacher is None or isinstance(teacher, Teacher):
        return
    if isinstance(teacher, type) or not callable(teacher):
        _check("teacher", teacher, (nn.Module, Teacher), "a network or a Teacher")


def _check(name: str, value: Any, kinds: Any, expected: str) -> None:
    if isinstance(value, kinds):
        return
    if isinstance(value, type):
        got = f"the class {value.__name__}; create one: {value.__name__}()"
    else:
        got = f"{type(value).__name__}"
    raise TypeError(f"{name} must be {expected}, got {got}")
