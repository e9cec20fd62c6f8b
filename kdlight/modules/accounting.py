"""One denominator per optimizer step: sums over micro-batches and ranks, divided once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kdlight.reduce import Loss


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step amounted to, over all its micro-batches and ranks.

    Attributes:
        loss: mean over all units; 0 where nothing counted.
        count: number of units.
        parts: the mean of each named part.
    """

    loss: float
    count: float
    parts: dict[str, float] = field(default_factory=dict)


class Ledger:
    """Adds up the losses of the micro-batches of one optimizer step, without waiting for a device.

    Example:
        >>> ledger = Ledger()
        >>> ledger.add(Loss(torch.tensor(6.0), torch.tensor(2)))
        >>> ledger.add(Loss(torch.tensor(0.0), torch.tensor(1)))
        >>> ledger.close().loss
        2.0
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, loss: Loss) -> None:
        """Add the sums of one micro-batch."""
        entries = {"/loss": loss.total, "/count": loss.count, **loss.parts}
        for key, value in entries.items():
            value = _wide(value.detach())
            self._sums[key] = self._sums[key] + value if key in self._sums else value

    def close(self, all_reduce: Callable[[Tensor], Tensor] | None = None) -> StepResult:
        """Reduce over ranks, return the means, and start anew. The one wait for the device."""
        keys = sorted(self._sums)
        sums = torch.stack([self._sums[key].to(self._sums["/loss"].device) for key in keys])
        values = dict(zip(keys, (all_reduce(sums) if all_reduce else sums).tolist(), strict=True))
        self._sums = {}
        total, count = values.pop("/loss"), values.pop("/count")
        over = max(count, 1.0)
        return StepResult(total / over, count, {key: part / over for key, part in values.items()})


def multiply_gradients(parameters: Iterable[Tensor], factor: float) -> None:
    """Multiply the gradients that are there, in place."""
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.mul_(factor)


def _wide(value: Tensor) -> Tensor:
    # sums over a long window lose tokens in float32; Apple's devices have nothing wider
    return value.to(torch.float32 if value.device.type == "mps" else torch.float64)
