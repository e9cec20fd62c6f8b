"""What an optimizer will hold, found out by asking it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from kdlight.doctor.findings import Finding, error, reason, warning
from kdlight.modules import StandaloneModule


def optimizer_bytes(module: StandaloneModule, *, held_in: torch.dtype | None) -> int | Finding:
    """Bytes of state of all optimizers of ``module``, or why they are not known."""
    try:
        optimizers = optimizers_of(module.configure_optimizers())
    except (ValueError, TypeError) as failure:
        return error(f"the optimizer cannot be made: {reason(failure)}")
    except Exception as failure:  # it may ask a Trainer that runs
        return warning(f"the optimizer could not be looked at: {reason(failure)}")
    total = 0
    for optimizer in optimizers:
        count = state_bytes(optimizer, held_in=held_in)
        if count is None:
            return warning(f"{type(optimizer).__name__} makes no step by itself: state not known")
        total += count
    return total


def optimizers_of(configured: Any) -> list[Optimizer]:
    """The optimizers in what ``configure_optimizers`` returns."""
    if isinstance(configured, Optimizer):
        return [configured]
    if isinstance(configured, dict):
        return optimizers_of(configured.get("optimizer"))
    if isinstance(configured, (list, tuple)):
        return [each for part in configured for each in optimizers_of(part)]
    return []


def state_bytes(optimizer: Optimizer, *, held_in: torch.dtype | None = None) -> int | None:
    """Bytes of state after the first step; None where the optimizer cannot be asked.

    It makes a step with a stand-in for each shape of a parameter, on the meta device, which holds
    no numbers; an optimizer that looks at numbers steps with zeros.

    Args:
        optimizer: is used up: its parameters are exchanged for stand-ins, and stay as they are.
        held_in: dtype that parameters will be converted to.

    Example:
        >>> net = nn.Linear(10, 20, bias=False)
        >>> state_bytes(torch.optim.Adam(net.parameters()))
        1604
        >>> state_bytes(torch.optim.SGD(net.parameters()))
        0
    """
    groups = [
        Counter((p.shape, held_in or p.dtype) for p in group["params"])
        for group in optimizer.param_groups
    ]
    for device in ("meta", "cpu"):
        optimizer.state.clear()
        counts: dict[Tensor, int] = {}
        for group, kinds in zip(optimizer.param_groups, groups, strict=True):
            stand_ins = {_stand_in(*kind, device): count for kind, count in kinds.items()}
            group["params"] = list(stand_ins)
            counts |= stand_ins
        try:
            optimizer.step()
        except Exception:  # an optimizer of somebody's own may raise anything
            continue
        return sum(_bytes(optimizer.state[each]) * count for each, count in counts.items())
    return None


def _stand_in(shape: torch.Size, dtype: torch.dtype, device: str) -> nn.Parameter:
    stand_in = nn.Parameter(torch.zeros(shape, dtype=dtype, device=device))
    stand_in.grad = torch.zeros_like(stand_in)
    return stand_in


def _bytes(state: dict[str, Any]) -> int:
    return sum(value.nbytes for value in state.values() if isinstance(value, Tensor))
