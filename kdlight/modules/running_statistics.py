"""A second forward pass that batch normalization does not count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@contextmanager
def kept_running_statistics(network: nn.Module) -> Iterator[None]:
    """Leave the running statistics of normalization layers as they are.

    The layers use copies in the meantime. Their own buffers are not written to, as autograd may
    have saved them in the first pass.

    Example:
        >>> import torch
        >>> norm = nn.BatchNorm1d(2)
        >>> with kept_running_statistics(norm):
        ...     _ = norm(torch.randn(4, 2))
        >>> norm.num_batches_tracked
        tensor(0)
    """
    layers = [module for module in network.modules() if isinstance(module, _NormBase)]
    kept = [(layer, {name: layer._buffers.get(name) for name in STATISTICS}) for layer in layers]
    for layer, buffers in kept:
        for name, buffer in buffers.items():
            if buffer is not None:
                layer._buffers[name] = buffer.clone()
    try:
        yield
    finally:
        for layer, buffers in kept:
            for name, buffer in buffers.items():
                if buffer is not None:
                    layer._buffers[name] = buffer
