"""Shard a network over a data-parallel mesh with FSDP2."""

from __future__ import annotations

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard


def shard(network: nn.Module, mesh: DeviceMesh) -> None:
    """Shard ``network`` in place, layer by layer, if it is not sharded yet.

    Each entry of an outermost `torch.nn.ModuleList` (the layers of a transformer) is gathered for
    itself while it runs; what remains (embeddings, norms, the output head) is gathered with the
    root and stays so until the backward pass is over, so that a loss may apply the head after the
    network has returned.
    """
    if isinstance(network, FSDPModule):
        return
    for layer in _layers(network):
        fully_shard(layer, mesh=mesh)
    # a root that is itself a list has no forward to gather in; the wrappers of this library have
    fully_shard(network, mesh=mesh, reshard_after_forward=False)


def _layers(network: nn.Module) -> list[nn.Module]:
    found: list[nn.Module] = []
    for child in network.children():
        if isinstance(child, nn.ModuleList):
            found.extend(layer for layer in child if any(True for _ in layer.parameters()))
        else:
            found.extend(_layers(child))
    return found
