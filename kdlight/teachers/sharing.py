"""A student that shares weights with its teacher, which would be frozen or change with it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from kdlight.teachers.base import Teacher
from kdlight.teachers.conversion import frozen_teachers

SHOWN = 3
"""Number of shared parts that an error names."""


def check_shared(student: nn.Module, teacher: nn.Module | Teacher | None) -> None:
    """Raise a ValueError where a student shares with its teacher what training changes.

    These are parameters that the student trains, or memory of them; buffers with running
    statistics or another state; and layers that act otherwise in training, such as dropout.
    Weights that the student does not train may be shared.

    Where the teacher is a `kdlight.FrozenTeacher` already, it has frozen the shared parts: they are
    as they were before when the error is raised. Call this with a network before it becomes a
    teacher, so that nothing has happened to the student.

    Args:
        student: the network that is trained.
        teacher: a network that is to be the teacher, or a teacher, or None.

    Raises:
        ValueError: If they share something; the message names up to three shared parts.

    Example:
        >>> student = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
        >>> check_shared(student, nn.Sequential(student[0], nn.Linear(3, 4)))
        Traceback (most recent call last):
        ValueError: student and teacher share 2 parts: '0.weight', '0.bias'; training the ...
    """
    frozen = frozen_teachers(teacher) if isinstance(teacher, Teacher) else []
    networks = teacher.networks() if isinstance(teacher, Teacher) else [teacher]
    was_trainable = {id(each) for one in frozen for each in one.frozen_parameters}
    shared = [
        name
        for network in networks
        if isinstance(network, nn.Module)
        for name in _shared(student, network, was_trainable)
    ]
    if not shared:
        return
    for each in frozen:
        each.unfreeze()
    names = ", ".join(map(repr, islice(dict.fromkeys(shared), SHOWN)))
    more = "" if len(shared) <= SHOWN else " and others"
    raise ValueError(
        f"student and teacher share {len(shared)} parts: {names}{more}; training the student would"
        " change the teacher, and freezing the teacher would stop the student from training. Give"
        " the teacher a copy: copy.deepcopy(network)"
    )


def _shared(student: nn.Module, teacher: nn.Module, was_trainable: set[int]) -> Iterator[str]:
    """Return the names, in the student, of what must not be shared."""
    trained = [
        (name, each)
        for name, each in student.named_parameters()
        if each.requires_grad or id(each) in was_trainable
    ]
    known = _memory(dict(teacher.named_parameters()))
    yield from (name for name, each in trained if known & _memory({name: each}))
    buffers = _memory(dict(teacher.named_buffers()))
    yield from (name for name, each in _states(student) if buffers & _memory({name: each}))
    modules = {id(each) for each in teacher.modules()}
    for name, module in student.named_modules():
        is_same = id(module) in modules and isinstance(module, (_DropoutNd, _NormBase))
        if is_same and not list(module.parameters()) and not list(module.buffers()):
            yield name or type(module).__name__


def _states(student: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Return the floating buffers that are saved, such as running means; others are constants."""
    for path, module in student.named_modules():
        for name, buffer in module.named_buffers(prefix=path, recurse=False):
            is_saved = name.rpartition(".")[2] not in module._non_persistent_buffers_set
            if is_saved and buffer.is_floating_point():
                yield name, buffer


def _memory(tensors: dict[str, Tensor]) -> set[Any]:
    """Return what identifies tensors and their memory."""
    found: set[Any] = set()
    for tensor in tensors.values():
        found.add(("tensor", id(tensor)))
        try:
            storage = tensor.untyped_storage()
            address = storage.data_ptr() if storage.size() else 0
        except (RuntimeError, NotImplementedError):  # memory of a subclass is not known
            address = 0
        if address:
            found.add((str(tensor.device), address))
    return found
