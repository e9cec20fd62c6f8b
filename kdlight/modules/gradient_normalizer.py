"""Accumulates loss sums over an optimizer step and normalizes its gradients once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import frexp, isfinite, prod
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from kdlight.objectives import LossInputs
from kdlight.reduce import Loss


@dataclass(frozen=True)
class StepResult:
    """Means over one optimizer step, over all its micro-batches and ranks.

    Attributes:
        loss: mean over all units; 0 without any.
        count: number of units.
        parts: the mean of each named part.
        ignored: share of the positions that are invalid (padding, prompts, the last position of a
            sequence, which has no next token).
        is_finite: whether all gradients are finite numbers.
        skipped: whether the optimizer leaves out the step, as in float16 with an overflow.

    Example:
        >>> StepResult(loss=0.5, count=127.0, ignored=0.01).loss
        0.5
    """

    loss: float
    count: float
    parts: dict[str, float] = field(default_factory=dict)
    ignored: float = 0.0
    is_finite: bool = True
    skipped: bool = False


class GradientNormalizer:
    """Makes the gradient of an optimizer step that of one big batch.

    The losses of all micro-batches and ranks are summed, and the gradients are divided once by the
    number of units of all of them. It takes three calls: `add` the loss of each micro-batch,
    multiply its total by `scale` before the backward pass, and `normalize` the gradients before the
    optimizer step (after unscaling those of mixed precision, before clipping). A
    `kdlight.DistillationModule` makes these calls itself. They are for manual optimization and for
    loops of your own.

    No call waits for the device, except for the first `scale` and for `normalize`.

    Args:
        sum_over_ranks: sums a tensor over the ranks that hold different data, such as
            `kdlight.distributed.sum_over_ranks`; None for a single process.

    Attributes:
        seen: number of units since the run began, over all ranks.

    Example:
        >>> weight = torch.tensor(1.0, requires_grad=True)
        >>> normalizer = GradientNormalizer()
        >>> for total, count in ((6.0, 2), (0.0, 1)):  # two micro-batches
        ...     loss = Loss(weight * total, torch.tensor(count))
        ...     normalizer.add(loss)
        ...     (loss.total * normalizer.scale(loss.count)).backward()
        >>> normalizer.normalize([weight]).loss, weight.grad, normalizer.seen
        (2.0, tensor(2.), 3)
    """

    def __init__(self, sum_over_ranks: Callable[[Tensor], Tensor] | None = None) -> None:
        self.sum_over_ranks = sum_over_ranks or (lambda values: values)
        self.seen = 0
        self._sums: dict[str, Tensor] = {}
        self._scale: float | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no loss was added since the last step."""
        return not self._sums

    def clear(self) -> None:
        """Forget the losses of an unfinished step."""
        self._sums = {}

    def add(self, loss: Loss, inputs: LossInputs | None = None) -> None:
        """Add the loss of one micro-batch.

        Args:
            loss: must have the same parts whatever the batch, as ranks add them up one by one.
            inputs: what the loss was evaluated on, for the share of invalid positions.
        """
        entries = {"/loss": loss.total, "/count": loss.count, **loss.parts}
        if inputs is not None:
            # filled on the device: to copy a number would wait for it
            positions = prod(inputs.student.shape[:-1])
            entries["/positions"] = torch.full((), positions, device=loss.total.device)
            valid = entries["/positions"] if inputs.mask is None else inputs.mask.sum()
            entries["/valid"] = valid
        for key, value in entries.items():
            value = _widen(value.detach())
            self._sums[key] = self._sums[key] + value if key in self._sums else value

    def scale(self, count: Tensor) -> float:
        """Return the constant to multiply a loss total by before the backward pass.

        A sum over thousands of tokens would overflow float16 gradients, so the backward pass gets
        about their mean. The constant is divided out again by `normalize`. It is a power of two,
        which changes no bit; it is the same on all ranks, whose gradients are added; it is that of
        the first micro-batch with a valid unit, as the gradients of those before are zero.
        """
        if self._scale is None:
            units = self.sum_over_ranks(_widen(count)).item()
            if units == 0:
                return 1.0
            self._scale = 2.0 ** (1 - frexp(units)[1])
        return self._scale

    def normalize(
        self,
        parameters: Iterable[Tensor] = (),
        *,
        averaged_over: int = 1,
        divide: bool = True,
        may_skip: bool = False,
    ) -> StepResult:
        """Divide the gradients of ``parameters`` by the number of units, and start a new step.

        Args:
            parameters: parameters whose gradients are divided in place.
            averaged_over: what the gradients were divided by already, such as the number of ranks
                under DDP, times the number of micro-batches where a trainer divides by it.
            divide: False leaves the gradients as they are, and only checks that they are finite.
            may_skip: whether the optimizer leaves out a step with gradients that are not finite;
                such a step adds nothing to ``seen``.
        """
        gradients = [p.grad for p in parameters if p.grad is not None]
        entries = {**self._sums, "/largest": _largest(gradients, like=self._sums["/loss"])}
        keys = sorted(entries)
        sums = torch.stack([entries[key].to(entries["/loss"].device) for key in keys])
        values = dict(zip(keys, self.sum_over_ranks(sums).tolist(), strict=True))
        self._sums = {}
        total, count = values.pop("/loss"), values.pop("/count")
        positions, valid = values.pop("/positions", 0.0), values.pop("/valid", 0.0)
        is_finite = isfinite(values.pop("/largest"))
        skipped = may_skip and not is_finite
        self.seen += 0 if skipped else round(count)
        denominator = max(count, 1.0)
        factor = averaged_over / (self._scale or 1.0) / denominator
        for gradient in gradients if divide else ():
            gradient.mul_(factor)
        return StepResult(
            loss=total / denominator,
            count=count,
            parts={key: part / denominator for key, part in values.items()},
            ignored=(positions - valid) / max(positions, 1.0),
            is_finite=is_finite,
            skipped=skipped,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"seen": self.seen, "scale": self._scale}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state``."""
        self.seen, self._scale = state["seen"], state["scale"]


def _largest(gradients: list[Tensor], *, like: Tensor) -> Tensor:
    """Return the largest magnitude among gradients; NaN if there is one."""
    local = [each.to_local() if isinstance(each, DTensor) else each for each in gradients]
    dense = [each.coalesce().values() if each.is_sparse else each for each in local]
    real = [
        torch.view_as_real(each.resolve_conj()) if each.is_complex() else each for each in dense
    ]
    # a vector norm takes ten times as long on a CPU
    ends = [end for each in real if each.numel() for end in torch.aminmax(each)]
    if not ends:
        return torch.zeros_like(like)
    return torch.stack([end.to(like) for end in ends]).abs().max()


def _widen(value: Tensor) -> Tensor:
    # float32 sums over a long step lose tokens; Apple's devices have no wider dtype
    return value.to(torch.float32 if value.device.type == "mps" else torch.float64)
