"""Tensors of a forward pass, from which gradients of the classifier are computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn

from kdlight.models.call_network import call_network
from kdlight.ranking.places import Place, Places, first_tensor


class Recorded(NamedTuple):
    """Tensors of a forward pass.

    Attributes:
        features: the last features.
        inputs: the input of the classifier.
        outputs: the output of the classifier, a leaf of the graph of the logits.
        logits: the logits (..., V).
    """

    features: Tensor
    inputs: Tensor
    outputs: Tensor
    logits: Tensor


def record(network: nn.Module, batch: Any, places: Places) -> Recorded:
    """Run a network, and record the tensors at these places.

    The logits depend on ``outputs``, and on nothing before it. Of a network whose classifier does
    not run as a module, they are the logits themselves, and the inputs are the features.

    Example:
        >>> import torch
        >>> from kdlight.ranking.places import find_places
        >>> network, x = nn.Linear(3, 5), torch.ones(2, 3)
        >>> seen = record(network, x, find_places(network, x))
        >>> seen.inputs.shape, seen.outputs.shape
        (torch.Size([2, 3]), torch.Size([2, 5]))
    """
    seen: dict[str, Tensor] = {}

    def keep_features(tensor: Tensor) -> None:
        seen["features"] = tensor.detach().clone()  # which later modules may change in place

    def keep_inputs(tensor: Tensor) -> None:
        seen["inputs"] = tensor.detach().clone()

    def replace_outputs(tensor: Tensor) -> Tensor:
        seen["outputs"] = tensor.detach().clone().requires_grad_()
        return seen["outputs"].clone()

    handles = [_hook(places.features, keep_features)]
    if places.classifier is not None:
        handles.append(_hook(places.classifier._replace(side="input"), keep_inputs))
        handles.append(_hook(places.classifier, replace_outputs))
    try:
        logits = call_network(network, batch).logits()
    finally:
        for handle in handles:
            handle.remove()
    if places.classifier is None:
        logits = logits.detach().requires_grad_()
        return Recorded(seen["features"], seen["features"], logits, logits)
    return Recorded(seen["features"], seen["inputs"], seen["outputs"], logits)


def _hook(place: Place, take: Callable[[Tensor], Tensor | None]) -> Any:
    """Add a hook that passes the tensor at a place on, and uses what comes back in its place."""
    calls = 0

    def visit(value: Any) -> Any:
        nonlocal calls
        calls += 1
        tensor = first_tensor(value)
        new = take(tensor) if calls == place.call + 1 and tensor is not None else None
        if new is None:
            return None
        return type(value)([new, *value[1:]]) if isinstance(value, (tuple, list)) else new

    if place.side == "input":
        return place.module.register_forward_pre_hook(lambda module, args: visit(args))
    return place.module.register_forward_hook(lambda module, args, output: visit(output))
