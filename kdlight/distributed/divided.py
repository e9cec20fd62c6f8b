"""What tensor parallelism divides inside of a network."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn
from torch.distributed.tensor import DTensor


def check_undivided(network: nn.Module, modules: Mapping[str, nn.Module]) -> None:
    """Raise a ValueError for modules of which a tensor-parallel rank computes a part.

    Within a block whose linear layers are divided, each rank has other columns. What the block
    returns is added up over ranks, and whole.

    Args:
        network: the network.
        modules: modules of it, by the path that the message is to name.

    Raises:
        ValueError: one of them is a divided layer, or beside one.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3))
        >>> check_undivided(network, {"0": network[0]})
    """
    blocks = [
        block for block in network.modules() if any(is_divided(child) for child in block.children())
    ]
    inside = {id(each): block for block in blocks for each in block.modules() if each is not block}
    for path, module in modules.items():
        if id(module) in inside:
            block = type(inside[id(module)]).__name__
            raise ValueError(
                f"the feature {path!r} is inside of {block}, whose layers are divided among"
                " tensor-parallel ranks, each of which has a part of it; choose a path that is not"
                " inside of such a block, or tensor_parallel_size=1"
            )


def mark_gathered(module: nn.Module) -> None:
    """Note that each rank gathers the whole output of a divided module, such as a head."""
    module.gathers_output = True  # type: ignore[assignment]


def is_divided(module: nn.Module) -> bool:
    """Return whether a rank has a part of the module's output, as tensor parallelism divides it.

    Example:
        >>> is_divided(nn.Linear(2, 3))
        False
    """
    if getattr(module, "gathers_output", False):
        return False
    return any(
        isinstance(p, DTensor) and "tensor_parallel" in (p.device_mesh.mesh_dim_names or ())
        for p in module.parameters(recurse=False)
    )
