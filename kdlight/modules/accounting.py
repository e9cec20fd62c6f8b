"""One denominator per optimizer step: sums over micro-batches and ranks, divided once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import frexp, prod
from typing import Any

import torch
from torch import Tensor, nn

from kdlight.objectives import Step
from kdlight.objectives.numbers import find_numbers
from kdlight.reduce import Loss

SumOverRanks = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step amounted to, over all its micro-batches and ranks.

    Attributes:
        loss: mean over all units; 0 where nothing counted.
        count: number of units.
        parts: the mean of each named part.
        ignored: share of the positions that did not count (padding, prompts, the last position of
            a sequence, which has nothing to predict).

    Example:
        >>> StepResult(loss=0.5, count=127.0, ignored=0.01).loss
        0.5
    """

    loss: float
    count: float
    parts: dict[str, float] = field(default_factory=dict)
    ignored: float = 0.0


class Ledger:
    """Adds up the losses of the micro-batches of one optimizer step, without waiting for a device.

    An objective must name the same parts whatever the batch: ranks add theirs up entry by entry.

    Attributes:
        seen: units counted since the run began, over all ranks.

    Example:
        >>> ledger = Ledger()
        >>> ledger.add(Loss(torch.tensor(6.0), torch.tensor(2)))
        >>> ledger.add(Loss(torch.tensor(0.0), torch.tensor(1)))
        >>> ledger.close().loss, ledger.seen
        (2.0, 3)
    """

    def __init__(self) -> None:
        self.seen = 0
        self._sums: dict[str, Tensor] = {}
        self._scale: float | None = None

    def add(self, loss: Loss, step: Step | None = None) -> None:
        """Add the sums of one micro-batch, and the positions of its step."""
        entries = {"/loss": loss.total, "/count": loss.count, **loss.parts}
        if step is not None:
            # filled on the device: a copied number would be waited for
            here = torch.full((), prod(step.student.shape[:-1]), device=loss.total.device)
            entries["/positions"] = here
            entries["/kept"] = here if step.mask is None else step.mask.sum()
        for key, value in entries.items():
            value = _wide(value.detach())
            self._sums[key] = self._sums[key] + value if key in self._sums else value

    def close(self, all_reduce: SumOverRanks | None = None) -> StepResult:
        """Reduce over ranks, return the means, and start anew. The one wait for the device."""
        keys = sorted(self._sums)
        sums = torch.stack([self._sums[key].to(self._sums["/loss"].device) for key in keys])
        values = dict(zip(keys, (all_reduce(sums) if all_reduce else sums).tolist(), strict=True))
        self._sums = {}
        total, count = values.pop("/loss"), values.pop("/count")
        positions, kept = values.pop("/positions", 0.0), values.pop("/kept", 0.0)
        self.seen += round(count)
        over = max(count, 1.0)
        return StepResult(
            loss=total / over,
            count=count,
            parts={key: part / over for key, part in values.items()},
            ignored=(positions - kept) / max(positions, 1.0),
        )

    def scale(self, count: Tensor, all_reduce: SumOverRanks) -> float:
        """The constant that a sum is multiplied by before the backward pass.

        A sum over thousands of tokens would overflow float16 gradients, so the backward pass sees
        about their mean. Any constant would do, as it is divided out again; a power of two, so
        that it changes no bit; agreed on by all ranks, so that their gradients add up; kept from
        the first micro-batch that counts anything. The gradients of those before it are zero.
        """
        if self._scale is None:
            units = all_reduce(_wide(count)).item()
            if units == 0:
                return 1.0
            self._scale = 2.0 ** (1 - frexp(units)[1])
        return self._scale

    def factor(self, count: float, *, averaged: int) -> float:
        """What gradients are multiplied by, once: ``averaged`` is what they were divided by."""
        return averaged / (self._scale or 1.0) / max(count, 1.0)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to know."""
        return {"seen": self.seen, "scale": self._scale}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.seen, self._scale = state["seen"], state["scale"]


def multiply_gradients(parameters: Iterable[Tensor], factor: float) -> None:
    """Multiply the gradients that are there, in place."""
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.mul_(factor)


def settings(objective: nn.Module) -> dict[str, float]:
    """The weights, temperatures and ``t`` of an objective and of those within, by their path.

    Example:
        >>> from kdlight.objectives import ForwardKL, Weighted
        >>> settings(Weighted({"kd": ForwardKL(temperature=2.0)}, weights={"kd": 0.5}))
        {'weights.kd': 0.5, 'terms.kd.temperature': 2.0}
    """
    return {
        path: number.get()
        for path, number in find_numbers(objective).items()
        if path.split(".")[-1] in ("t", "temperature") or "weights" in path.split(".")[-2:-1]
    }


def _wide(value: Tensor) -> Tensor:
    # sums over a long window lose tokens in float32; Apple's devices have nothing wider
    return value.to(torch.float32 if value.device.type == "mps" else torch.float64)
