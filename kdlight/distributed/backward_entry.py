"""Gradients that enter a sharded network at a feature instead of at its outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from typing_extensions import Self


class ShardedOutputs:
    """The outputs of a network sharded with FSDP2, within a ``with`` block.

    FSDP2 gathers the parameters of a module, and waits for the gradients of a step, in hooks on the
    outputs of the module. A loss on a feature inside of it, without a term of the logits, would not
    run these hooks. `attach` makes the outputs a part of the graph of the feature, without a
    gradient. So the hooks run, in the order that FSDP2 expects, and parameters behind the feature
    keep the gradient None that they have in one process.

    Attributes:
        network: the network.

    Args:
        network: any network; one without `torch.distributed.fsdp.FSDPModule` is left alone.

    Example:
        >>> with ShardedOutputs(nn.Linear(2, 3)) as outputs:
        ...     feature = torch.zeros(4, 3)
        >>> outputs.attach(feature) is feature
        True
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._roots = list(_sharded_roots(network))
        self._outputs: list[Tensor] = []
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        """Add the hooks."""
        self._handles = [each.register_forward_hook(self._keep) for each in self._roots]
        return self

    def __exit__(self, *error: object) -> None:
        """Remove the hooks."""
        while self._handles:
            self._handles.pop().remove()

    def attach(self, feature: Tensor) -> Tensor:
        """Return ``feature`` with the outputs in its graph."""
        if not self._outputs or not feature.requires_grad:
            return feature
        attached = _Attached.apply(feature, *self._outputs)
        assert isinstance(attached, Tensor)
        return attached

    def _keep(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._outputs += [each for each in _tensors(output) if each.requires_grad]


class _Attached(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, feature: Tensor, *outputs: Tensor) -> Tensor:
        ctx.count = len(outputs)
        return feature.view_as(feature)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return (grad, *[None] * ctx.count)


def _sharded_roots(network: nn.Module) -> Iterator[nn.Module]:
    """Iterate over the outermost sharded modules of a network."""
    if isinstance(network, FSDPModule):
        yield network
        return
    for child in network.children():
        yield from _sharded_roots(child)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _tensors(each)
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from _tensors(each)
    elif is_dataclass(value):  # such as a logits source
        for each in fields(value):
            yield from _tensors(getattr(value, each.name))
