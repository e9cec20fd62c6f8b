"""Bytes of optimizer state, measured by a step on parameters without values."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from kdlight.doctor.findings import Finding, error, reason, warning
from kdlight.modules.base import DistillationBase


def optimizer_bytes(module: DistillationBase, *, weight_dtype: torch.dtype | None) -> int | Finding:
    """Return the bytes of state of all optimizers of ``module``, or why they are unknown."""
    try:
        optimizers = optimizers_of(module.configure_optimizers())
    except (ValueError, TypeError) as failure:
        return error(f"the optimizer cannot be made: {reason(failure)}")
    except Exception as failure:  # it may need a running Trainer
        return warning(f"the optimizer could not be checked: {reason(failure)}")
    total = 0
    for optimizer in optimizers:
        count = state_bytes(optimizer, weight_dtype=weight_dtype)
        if count is None:
            name = type(optimizer).__name__
            return warning(f"{name} makes no step without a closure: its state is unknown")
        total += count
    return total


def optimizers_of(configured: Any) -> list[Optimizer]:
    """Return the optimizers in the result of ``configure_optimizers``.

    Example:
        >>> sgd = torch.optim.SGD([torch.zeros(1)])
        >>> optimizers_of(([{"optimizer": sgd}], [])) == optimizers_of(sgd) == [sgd]
        True
    """
    if isinstance(configured, Optimizer):
        return [configured]
    if isinstance(configured, dict):
        return optimizers_of(configured.get("optimizer"))
    if isinstance(configured, (list, tuple)):
        return [each for part in configured for each in optimizers_of(part)]
    return []


def state_bytes(optimizer: Optimizer, *, weight_dtype: torch.dtype | None = None) -> int | None:
    """Return the bytes of state after the first step; None if the optimizer cannot make a step.

    It makes a step with one substitute for each shape of a parameter, on the meta device, where
    tensors have no values. An optimizer that reads values makes a step on zeros instead.

    Args:
        optimizer: the optimizer; its parameters are replaced, so it cannot be used afterwards.
        weight_dtype: dtype that parameters will be converted to; None if they are kept.

    Example:
        >>> net = nn.Linear(10, 20, bias=False)
        >>> state_bytes(torch.optim.Adam(net.parameters()))
        1604
        >>> state_bytes(torch.optim.SGD(net.parameters()))
        0
    """
    groups = [
        Counter((p.shape, weight_dtype or p.dtype) for p in group["params"])
        for group in optimizer.param_groups
    ]
    for device in ("meta", "cpu"):
        optimizer.state.clear()
        counts: dict[Tensor, int] = {}
        for group, kinds in zip(optimizer.param_groups, groups, strict=True):
            substitutes = {_substitute(*kind, device): count for kind, count in kinds.items()}
            group["params"] = list(substitutes)
            counts |= substitutes
        try:
            optimizer.step()
        except Exception:  # a user's optimizer may raise anything
            continue
        return sum(_bytes(optimizer.state[each]) * count for each, count in counts.items())
    return None


def _substitute(shape: torch.Size, dtype: torch.dtype, device: str) -> nn.Parameter:
    parameter = nn.Parameter(torch.zeros(shape, dtype=dtype, device=device))
    parameter.grad = torch.zeros_like(parameter)
    return parameter


def _bytes(state: dict[str, Any]) -> int:
    return sum(value.nbytes for value in state.values() if isinstance(value, Tensor))
