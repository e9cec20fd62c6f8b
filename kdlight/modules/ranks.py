"""Which ranks see different data, and sums over them."""

from __future__ import annotations

import torch.distributed as dist
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor


def data_parallel_size(trainer: Trainer) -> int:
    """Number of ranks whose gradients the strategy averages."""
    if isinstance(trainer.strategy, ModelParallelStrategy):
        return trainer.strategy.device_mesh["data_parallel"].size()
    return trainer.world_size


def data_parallel_sum(trainer: Trainer, values: Tensor) -> Tensor:
    """Sum over the ranks that see different data; ranks of one tensor-parallel group count once."""
    if data_parallel_size(trainer) == 1:
        return values
    group = None
    if isinstance(trainer.strategy, ModelParallelStrategy):
        group = trainer.strategy.device_mesh["data_parallel"].get_group()
    values = values.to(trainer.strategy.root_device).clone()
    dist.all_reduce(values, group=group)
    return values
