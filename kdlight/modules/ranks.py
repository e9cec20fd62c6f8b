"""Which ranks see different data, and what they agree on."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torchmetrics import Metric


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


def average_gradients(trainer: Trainer, parameters: Iterable[Tensor]) -> None:
    """Average the gradients of parameters that no strategy looks after, as it would have done.

    FSDP2 reduces the gradients of what it shards, which is the student. The few parameters that an
    objective has are whole on every rank. A rank without a gradient takes part with zeros.
    """
    size = data_parallel_size(trainer)
    for parameter in parameters:
        if parameter.requires_grad and size > 1:
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = data_parallel_sum(trainer, gradient) / size


@torch.no_grad()
def copy_from_first_rank(trainer: Trainer, tensors: Iterable[Tensor]) -> None:
    """Give all ranks the values of rank 0, as DDP does by itself."""
    for tensor in tensors:
        if trainer.world_size > 1:
            dist.broadcast(tensor.data, src=0)


def count_once(trainer: Trainer, module: nn.Module) -> None:
    """Let metrics add up over the ranks that see different data, and over no others.

    What a mean does not notice, a metric that sorts what it has seen does: data that count twice.
    """
    if isinstance(trainer.strategy, ModelParallelStrategy):
        group = trainer.strategy.device_mesh["data_parallel"].get_group()
        for part in module.modules():
            if isinstance(part, Metric):
                part.process_group = group


def on_each_rank(trainer: Trainer, value: float) -> list[float]:
    """The ``value`` of every rank, on every rank."""
    if trainer.world_size == 1:
        return [value]
    mine = torch.tensor(value, dtype=torch.float64, device=trainer.strategy.root_device)
    return trainer.strategy.all_gather(mine).tolist()
