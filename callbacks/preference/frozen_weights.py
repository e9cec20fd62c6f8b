"""Detect weights in half precision that a small learning rate cannot change."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer


@torch.no_grad()
def frozen_share(weights: Iterable[Tensor], lr: float) -> float:
    """Return the share of weights that an update of size ``lr`` leaves unchanged by rounding.

    With b mantissa bits, neighbouring numbers differ by about 2^-b of their size. An update of less
    than half of that is lost. The updates of Adam are about as large as the learning rate.

    Example:
        >>> weight = torch.full((8,), 0.02)
        >>> frozen_share([weight], 1e-6), frozen_share([weight.bfloat16()], 1e-6)
        (0.0, 1.0)
    """
    lost = total = 0
    for weight in weights:
        changed = (weight + lr != weight) | (weight - lr != weight)
        lost, total = lost + int((~changed).sum()), total + weight.numel()
    return lost / max(total, 1)


def check_weights_move(optimizers: Iterable[Optimizer]) -> None:
    """Raise an error if updates would leave most weights in half precision unchanged.

    Raises:
        ValueError: More than half of the half-precision weights of a parameter group would not
            change.
    """
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            coarse = [p for p in group["params"] if p.dtype in (torch.bfloat16, torch.float16)]
            rate = group.get("initial_lr", group["lr"])  # a warm-up begins below it
            share = frozen_share(coarse, rate)
            if share > 0.5:
                raise ValueError(
                    f"updates of the learning rate {rate:g} would leave {share:.0%} of the"
                    f" {coarse[0].dtype} weights unchanged by rounding; keep the weights in float32"
                    " by trainer.precision bf16-mixed instead of bf16-true"
                )
