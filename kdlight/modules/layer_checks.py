"""Checks of layer-wise distillation, and what it reads from labels and from the trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    SingleDeviceStrategy,
    Strategy,
)
from torch import Tensor, nn

from kdlight.features import FeaturePath, find_module
from kdlight.losses.labels import IGNORE_INDEX
from kdlight.modules.optimizers import trainable


def check_pairs(student: nn.Module, paths: Mapping[str, str]) -> dict[str, str]:
    """Return the names of the student's modules by path.

    Args:
        student: the student.
        paths: the path of the teacher's module for each path of the student's.

    Raises:
        ValueError: a path of an input, a module without trainable parameters, or two that share
            parameters.

    Example:
        >>> check_pairs(nn.Sequential(nn.Sequential(nn.Linear(2, 3))), {"0.0:output": "0"})
        {'0.0:output': '0.0'}
    """
    names = {id(module): name for name, module in student.named_modules()}
    found: dict[str, str] = {}
    owners: dict[int, str] = {}
    for path, theirs in paths.items():
        for side in (path, theirs):
            if FeaturePath.parse(side).side == "input":
                raise ValueError(
                    f"pairs must be those of modules, or outputs of them, got the input {side!r}"
                )
        module = find_module(student, path)
        if not trainable(module):
            raise ValueError(
                f"the module {path!r} of the student has no trainable parameters; leave it out"
            )
        found[path] = names[id(module)]
        for parameter in module.parameters():
            owner = owners.setdefault(id(parameter), path)
            if owner != path:
                raise ValueError(
                    f"the modules {owner!r} and {path!r} of the student share parameters, but each"
                    " is trained by itself; choose modules that are not inside of each other"
                )
    return found


def check_whole(strategy: Strategy) -> None:
    """Raise a ValueError for a strategy that does not let modules of a student run by themselves.

    Example:
        >>> check_whole(DDPStrategy())
    """
    is_whole = isinstance(strategy, (SingleDeviceStrategy, DDPStrategy))
    if not is_whole or isinstance(strategy, DeepSpeedStrategy):  # which is a DDPStrategy
        raise ValueError(
            "layer-wise distillation calls modules of the student by themselves, which"
            f" {type(strategy).__name__} cannot: it gathers weights where the whole student runs;"
            " use one device, or strategy='ddp'"
        )


def valid_labels(labels: Tensor) -> Tensor:
    """Return where labels count; of labels that are numbers, ``(B, ...)``, which samples do.

    Example:
        >>> import torch
        >>> valid_labels(torch.tensor([3, -100])), valid_labels(torch.tensor([[0.5, float("nan")]]))
        (tensor([ True, False]), tensor([True]))
    """
    if not labels.is_floating_point():
        return labels != IGNORE_INDEX
    valid = ~labels.isnan() & (labels != IGNORE_INDEX)
    return valid.flatten(1).any(1) if valid.dim() > 1 else valid


def loss_scale(trainer: Any) -> float:
    """Return by what mixed precision multiplies a loss, so that float16 does not underflow.

    Example:
        >>> loss_scale(None)
        1.0
    """
    scaler = getattr(getattr(trainer, "precision_plugin", None), "scaler", None)
    return 1.0 if scaler is None else float(scaler.get_scale())
