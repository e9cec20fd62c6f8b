"""Weights in half precision that a small learning rate cannot move."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer


@torch.no_grad()
def frozen_share(weights: Iterable[Tensor], lr: float) -> float:
    """The share of weights that a step of the size ``lr`` rounds back to where they were.

    A number of b mantissa bits has its neighbours about 2^-b of its size away; a step of less than
    half of that is lost. Adam moves a weight by about the learning rate.

    Example:
        >>> weight = torch.full((8,), 0.02)
        >>> frozen_share([weight], 1e-6), frozen_share([weight.bfloat16()], 1e-6)
        (0.0, 1.0)
    """
    lost = total = 0
    for weight in weights:
        moved = (weight + lr != weight) | (weight - lr != weight)
        lost, total = lost + int((~moved).sum()), total + weight.numel()
    return lost / max(total, 1)


def check_weights_move(optimizers: Iterable[Optimizer]) -> None:
    """Raise a ValueError where most of the weights would stay where they are."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            coarse = [p for p in group["params"] if p.dtype in (torch.bfloat16, torch.float16)]
            rate = group.get("initial_lr", group["lr"])  # a warm-up begins lower
            share = frozen_share(coarse, rate)
            if share > 0.5:
                raise ValueError(
                    f"a step of the learning rate {rate:g} would leave {share:.0%} of the"
                    f" {coarse[0].dtype} weights where they are: it is lost in their rounding, and"
                    " training would do next to nothing. Keep the weights in float32:"
                    " trainer.precision bf16-mixed instead of bf16-true"
                )
