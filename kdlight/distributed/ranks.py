"""Data-parallel ranks: which ranks hold different data, and what they exchange."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torchmetrics import Metric


def data_parallel_group(trainer: Trainer) -> dist.ProcessGroup | None:
    """Return the ranks that hold different data, None for all; tensor-parallel ranks share data."""
    if isinstance(trainer.strategy, ModelParallelStrategy):
        return trainer.strategy.device_mesh["data_parallel"].get_group()
    return None


def row_group(mesh: DeviceMesh | None) -> dist.ProcessGroup | None:
    """Return the ranks that hold the same data, and divide the rows of a loss; None for none."""
    if mesh is None or mesh["tensor_parallel"].size() == 1:
        return None
    return mesh["tensor_parallel"].get_group()


def data_parallel_size(trainer: Trainer) -> int:
    """Return the number of ranks whose gradients the strategy averages."""
    if isinstance(trainer.strategy, ModelParallelStrategy):
        return trainer.strategy.device_mesh["data_parallel"].size()
    return trainer.world_size


def sum_over_ranks(values: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """Sum ``values`` over the ranks of ``group``; unchanged in a process without others.

    Example:
        >>> sum_over_ranks(torch.tensor([1.0, 2.0]))
        tensor([1., 2.])
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size(group) == 1:
        return values
    values = values.clone()
    dist.all_reduce(values, group=group)
    return values


def data_parallel_sum(trainer: Trainer, values: Tensor) -> Tensor:
    """Sum ``values`` over the ranks that hold different data."""
    if data_parallel_size(trainer) == 1:
        return values
    values = values.to(trainer.strategy.root_device)
    return sum_over_ranks(values, data_parallel_group(trainer))


def average_gradients(trainer: Trainer, parameters: Iterable[Tensor]) -> None:
    """Average the gradients of parameters that the strategy does not reduce.

    FSDP2 reduces the gradients of what it shards, the student. The few parameters of an objective
    are whole on every rank. A rank without a gradient contributes zeros.
    """
    size = data_parallel_size(trainer)
    for parameter in parameters:
        if parameter.requires_grad and size > 1:
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = data_parallel_sum(trainer, gradient) / size


@torch.no_grad()
def copy_from_first_rank(trainer: Trainer, tensors: Iterable[Tensor]) -> None:
    """Copy the values of rank 0 to all ranks, as DDP does for its module."""
    for tensor in tensors:
        if trainer.world_size > 1:
            dist.broadcast(tensor.data, src=0)


def reduce_over_data_parallel_ranks(trainer: Trainer, module: nn.Module) -> None:
    """Make the metrics of ``module`` reduce over the ranks that hold different data only.

    Data that is counted twice does not change a mean, but it changes a metric that sorts values.
    """
    if isinstance(trainer.strategy, ModelParallelStrategy):
        for part in module.modules():
            if isinstance(part, Metric):
                part.process_group = data_parallel_group(trainer)


def gather_numbers(trainer: Trainer, value: float) -> list[float]:
    """Return the ``value`` of every rank, on every rank."""
    if trainer.world_size == 1:
        return [value]
    mine = torch.tensor(value, dtype=torch.float64, device=trainer.strategy.root_device)
    return trainer.strategy.all_gather(mine).tolist()
