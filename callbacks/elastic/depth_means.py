"""The mean of each depth over all ranks."""

from __future__ import annotations

from collections.abc import Mapping
from math import nan

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from kdlight.distributed.ranks import data_parallel_sum


def depth_means(trainer: Trainer, sums: Mapping[int, Tensor]) -> dict[int, float]:
    """Return the mean of each depth, over the ranks that hold different data; NaN without units.

    Args:
        trainer: the trainer of the run.
        sums: a sum and the number of its units for each depth, (2,), the same depths on all ranks.

    Example:
        >>> trainer = Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
        >>> depth_means(trainer, {4: torch.tensor([3.0, 2.0]), 6: torch.zeros(2)})
        {4: 1.5, 6: nan}
    """
    if not sums:
        return {}
    rows = data_parallel_sum(trainer, torch.stack(list(sums.values()))).tolist()
    return {
        depth: total / count if count else nan
        for depth, (total, count) in zip(sums, rows, strict=True)
    }
