"""Divide a network among ranks: FSDP2, and tensor parallelism of its linear layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from kdlight.distributed.divided import mark_gathered

GATHERED = ("colwise_gather_output", "colwise_rep")
"""Styles of an output head in a plan: of a divided head, each rank gathers the output."""
STYLES = {"colwise": ColwiseParallel, "rowwise": RowwiseParallel}
HEADS = ("num_attention_heads", "num_key_value_heads")


def shard(network: nn.Module, mesh: DeviceMesh, *, divide_head: bool = False) -> None:
    """Shard ``network`` in place, layer by layer, if it is not sharded yet.

    Each entry of an outermost `torch.nn.ModuleList` (the layers of a transformer) is gathered only
    while it runs. The rest (embeddings, norms, the output head) is gathered with the root, and
    stays gathered until the backward pass has ended, so that a loss can apply the head after the
    forward pass. Always call the whole network: a call of a submodule gathers nothing.

    If the mesh has several tensor-parallel ranks, they first divide the linear layers that a plan
    names. Hugging Face models have such a plan. Other networks define it as an attribute
    ``tensor_parallel_plan``, such as ``{"layers.*.up": "colwise", "layers.*.down": "rowwise"}``.

    Args:
        network: the network, which is changed.
        mesh: a mesh with the dimensions ``data_parallel`` and ``tensor_parallel``.
        divide_head: divide the vocabulary of the output head among tensor-parallel ranks, too. The
            plan names it, as in ``{"head": "colwise_gather_output"}``.

    Raises:
        ValueError: there are tensor-parallel ranks, and the network has no plan, or a number of
            attention heads that they do not divide; a head that is to be divided is not in the
            plan, or tied to the embedding.
    """
    if isinstance(network, FSDPModule):
        return
    if mesh["tensor_parallel"].size() > 1:
        _divide_linear_layers(network, mesh["tensor_parallel"], divide_head)
    for layer in layers(network):
        fully_shard(layer, mesh=mesh["data_parallel"])
    # the root must have a forward pass to be gathered in, which a ModuleList does not have
    fully_shard(network, mesh=mesh["data_parallel"], reshard_after_forward=False)


def layers(network: nn.Module) -> list[nn.Module]:
    """Return the repeated layers of a network, which are sharded one by one.

    Example:
        >>> blocks = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        >>> len(layers(nn.ModuleDict({"embedding": nn.Embedding(5, 2), "blocks": blocks})))
        2
    """
    repeated: list[nn.Module] = []
    for child in network.children():
        if isinstance(child, nn.ModuleList):
            repeated.extend(layer for layer in child if any(True for _ in layer.parameters()))
        else:
            repeated.extend(layers(child))
    return repeated


def _divide_linear_layers(network: nn.Module, mesh: DeviceMesh, divide_head: bool) -> None:
    for owner in network.modules():
        plan = getattr(owner, "tensor_parallel_plan", None) or getattr(owner, "tp_plan", None)
        if plan:
            break
    else:
        raise ValueError(
            f"tensor_parallel_size={mesh.size()}, but {type(network).__name__} has no"
            " tensor_parallel_plan, which names the layers to divide; give it this attribute, such"
            " as {'layers.*.up': 'colwise', 'layers.*.down': 'rowwise'}, or set"
            " tensor_parallel_size=1"
        )
    for name in HEADS:
        heads = getattr(getattr(owner, "config", None), name, None)
        if heads is not None and heads % mesh.size():
            raise ValueError(
                f"tensor_parallel_size={mesh.size()} does not divide {name}={heads} of"
                f" {type(owner).__name__}; set a tensor_parallel_size that divides it"
            )
    # Hugging Face also divides embeddings and heads, of which a loss needs whole rows of logits
    styles = {path: STYLES[style]() for path, style in plan.items() if style in STYLES}
    if divide_head:
        path = _head_path(owner, plan)
        styles[path] = ColwiseParallel(output_layouts=Replicate())
        mark_gathered(owner.get_submodule(path))
    parallelize_module(owner, mesh, styles)


def _head_path(owner: nn.Module, plan: Mapping[str, str]) -> str:
    """Return the path of the head that the plan names, which must be a layer of its own."""
    name = type(owner).__name__
    paths = [path for path, style in plan.items() if style in GATHERED]
    if len(paths) != 1:
        raise ValueError(
            f"divide_head=True, but the plan of {name} names {paths or 'no head'}; add the path of"
            f" its one output head, such as {{'head': {GATHERED[0]!r}}}, or set divide_head=False"
        )
    head = owner.get_submodule(paths[0])
    own = {id(parameter) for parameter in head.parameters()}
    others = (p for part in owner.modules() if part is not head for p in part._parameters.values())
    if any(id(parameter) in own for parameter in others):
        raise ValueError(
            f"divide_head=True, but the head {paths[0]!r} of {name} is tied to its embedding, which"
            " every rank needs whole; set divide_head=False, or untie them"
            " (tie_word_embeddings=False)"
        )
    return paths[0]


def clip_norm(parameters: Iterable[Tensor], max_norm: float) -> None:
    """Clip the common norm of all gradients, however each of them is sharded.

    `torch.nn.utils.clip_grad_norm_` can only add up gradients that are sharded over one mesh.

    Example:
        >>> weight = nn.Parameter(torch.zeros(2))
        >>> weight.grad = torch.tensor([3.0, 4.0])
        >>> clip_norm([weight], max_norm=1.0)
        >>> weight.grad
        tensor([0.6000, 0.8000])
    """
    groups: dict[Any, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            groups.setdefault(getattr(parameter.grad, "device_mesh", None), []).append(parameter)
    norms = [_full_tensor(nn.utils.clip_grad_norm_(group, inf)) for group in groups.values()]
    if norms:
        total = torch.stack([norm.to(norms[0]) for norm in norms]).norm().item()
        for parameter in (each for group in groups.values() for each in group):
            assert parameter.grad is not None
            parameter.grad.mul_(min(1.0, max_norm / (total + 1e-6)))


def _full_tensor(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
