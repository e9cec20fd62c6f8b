"""The weights of a student, which are moved for a while and restored to the same bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from kdlight.distributed.ranks import data_parallel_sum


class MovedWeights:
    """Moves weights in place, and back.

    Args:
        weights: the weights, sharded or not.

    Example:
        >>> weight = nn.Parameter(torch.ones(2))
        >>> with moved_weights([weight]) as moved:
        ...     moved.to([torch.ones(2)], 0.5)
        ...     moved.to([torch.ones(2)], -1.0)
        ...     weight.tolist()
        [0.0, 0.0]
        >>> weight.tolist()
        [1.0, 1.0]
    """

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self.weights = list(weights)
        self._values = [weight.detach().clone() for weight in weights]

    @torch.no_grad()
    def to(self, direction: Sequence[Tensor], scale: float) -> None:
        """Move the weights to where they were at first, plus ``scale`` times ``direction``."""
        for weight, value, step in zip(self.weights, self._values, direction, strict=True):
            weight.copy_(value).add_(step, alpha=scale)

    @torch.no_grad()
    def back(self) -> None:
        """Move the weights to where they were at first."""
        for weight, value in zip(self.weights, self._values, strict=True):
            weight.copy_(value)  # not a difference, which would round


@contextmanager
def moved_weights(weights: Sequence[Tensor]) -> Iterator[MovedWeights]:
    """Restore the weights at the end, whatever happens."""
    moved = MovedWeights(weights)
    try:
        yield moved
    finally:
        moved.back()


@contextmanager
def kept_buffers(module: nn.Module) -> Iterator[None]:
    """Restore the buffers of a module at the end, such as running statistics.

    Example:
        >>> norm = nn.BatchNorm1d(2)
        >>> with kept_buffers(norm):
        ...     _ = norm(torch.randn(4, 2))
        >>> norm.running_mean, norm.num_batches_tracked
        (tensor([0., 0.]), tensor(0))
    """
    kept = [
        (owner, name, buffer, buffer.clone())
        for owner in module.modules()
        for name, buffer in owner._buffers.items()
        if buffer is not None
    ]
    try:
        yield
    finally:
        for owner, name, buffer, value in kept:
            buffer.copy_(value)
            owner._buffers[name] = buffer


def norm(trainer: Trainer, tensors: Sequence[Tensor]) -> float:
    """Return the common norm of tensors; of sharded ones, over all ranks."""
    device = trainer.strategy.root_device
    squares = torch.zeros(2, dtype=torch.float32 if device.type == "mps" else torch.float64)
    squares = squares.to(device)
    for each in tensors:
        sharded = isinstance(each, DTensor)
        local = each.to_local() if sharded else each
        squares[int(sharded)] += torch.linalg.vector_norm(local.to(squares.dtype)).square()
    return float((squares[0] + data_parallel_sum(trainer, squares[1:])[0]).sqrt())


def reshard(module: nn.Module) -> None:
    """Free what FSDP2 gathered, so that the next pass gathers the weights as they are then."""
    for each in module.modules():
        if isinstance(each, FSDPModule):
            each.reshard()
