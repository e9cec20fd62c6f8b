"""Where in a network its last features and its classifier are."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kdlight.features import FeaturePath, find_module
from kdlight.features.parametrized import inner_modules, own_children
from kdlight.models.call_network import call_network
from kdlight.models.model_kind import wrapped_model

CHANNELS_FIRST = (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d, nn.MaxPool1d, nn.AvgPool1d)
"""Layers whose outputs with three axes are ``(B, C, T)``, not ``(B, T, C)``."""


class Place(NamedTuple):
    """A tensor of a forward pass: an output, or the input, of one call of a module.

    Attributes:
        module: the module.
        side: ``"input"`` or ``"output"``.
        call: number of the call in a forward pass, from 0.
        channel_dim: the axis of the channels.

    Example:
        >>> Place(nn.Identity(), "output", 0, -1).channel_dim
        -1
    """

    module: nn.Module
    side: str
    call: int
    channel_dim: int


class Places(NamedTuple):
    """What is read of a network.

    Attributes:
        features: the last features.
        classifier: the output of the classifier; None for one that does not run as a module.

    Example:
        >>> Places(Place(nn.Identity(), "output", 0, -1), None).classifier is None
        True
    """

    features: Place
    classifier: Place | None


class _Call(NamedTuple):
    module: nn.Module
    number: int
    output: torch.Size | None
    inputs: torch.Size | None


def first_tensor(value: Any) -> Tensor | None:
    """Return ``value``, or the first entry of a tuple or list, if it is a tensor of floats.

    Example:
        >>> first_tensor((torch.zeros(2), None)).shape
        torch.Size([2])
    """
    if isinstance(value, (tuple, list)) and value:
        value = value[0]
    return value if isinstance(value, Tensor) and value.is_floating_point() else None


@torch.no_grad()
def find_places(network: nn.Module, batch: Any, path: str | None = None) -> Places:
    """Find the last features of ``network`` and its classifier, by running it on a batch.

    The classifier is the output head of a language model, or else the last layer with parameters,
    if it has an output for each class.
    The features are the last output before it that has channels at several places: maps
    ``(B, C, H, W)`` before they are averaged, or hidden states ``(B, T, D)``. A network without any
    has vectors: the input of its classifier.

    Args:
        network: the network, in evaluation mode.
        batch: a batch.
        path: a module whose output is taken as the features instead, see
            `kdlight.features.find_module`.

    Raises:
        ValueError: If the path leads to no module, or to one that does not run or returns no
            tensor; or if nothing is found.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
        >>> places = find_places(network, torch.zeros(5, 1, 3, 3))
        >>> places.features.module, places.classifier.module
        (ReLU(), Linear(in_features=36, out_features=2, bias=True))
    """
    chosen = None if path is None else _chosen(network, path)
    calls, logits = _run(network, batch, chosen)
    head = _classifier(calls, network, logits[-1])
    classifier = None
    if head is not None:
        call = calls[head]
        dim = -1 if call.output is None else _channel_dim(call.module, call.output)
        classifier = Place(call.module, "output", call.number, dim)
    if chosen is None:
        return Places(_last_features(calls, head, logits, network), classifier)
    own = [call for call in calls if call.module is chosen and call.output is not None]
    if not own:
        raise ValueError(
            f"the path {path!r} leads to a {type(chosen).__name__} that did not run or returned no"
            " tensor; name another module"
        )
    shape: Any = own[-1].output
    place = Place(chosen, "output", own[-1].number, _channel_dim(chosen, shape))
    return Places(place, classifier)


def _chosen(network: nn.Module, path: str) -> nn.Module:
    parsed = FeaturePath.parse(path)
    if parsed.side == "input" or parsed.key:
        raise ValueError(f"the path {path!r} must be that of a module, whose output is taken")
    return find_module(network, path)


def _run(
    network: nn.Module, batch: Any, chosen: nn.Module | None
) -> tuple[list[_Call], torch.Size]:
    """Return the calls of all innermost modules and the chosen one, and the shape of the logits."""
    calls: list[_Call] = []
    numbers: dict[int, int] = {}

    def record(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        number = numbers.get(id(module), 0)
        numbers[id(module)] = number + 1
        shapes = [None if t is None else t.shape for t in map(first_tensor, (output, args))]
        calls.append(_Call(module, number, *shapes))

    watched = inner_modules(network)
    if chosen is not None and all(chosen is not each for each in watched):
        watched.append(chosen)
    handles = [module.register_forward_hook(record) for module in watched]
    try:
        logits = call_network(network, batch).logits()
    finally:
        for handle in handles:
            handle.remove()
    return calls, logits.shape


def _last_features(
    calls: list[_Call], head: int | None, logits: torch.Size, network: nn.Module
) -> Place:
    before = calls if head is None else calls[:head]
    for call in reversed(before):
        shape = call.output
        if shape is None or len(shape) < 3 or shape[0] != logits[0]:
            continue
        channel_dim = _channel_dim(call.module, shape)
        if shape.numel() > shape[0] * shape[channel_dim]:
            return Place(call.module, "output", call.number, channel_dim)
    if head is not None and calls[head].inputs is not None:
        return Place(calls[head].module, "input", calls[head].number, -1)
    raise ValueError(
        f"{type(network).__name__} has no module with features before a classifier; name the"
        " path of the module whose output is to be compared"
    )


def _classifier(calls: list[_Call], network: nn.Module, classes: int) -> int | None:
    """Return the index of the call of the classifier; None if none has an output for each class."""
    model = wrapped_model(network)
    head = None if model is None else model.get_output_embeddings()
    for index in range(len(calls) - 1, -1, -1):
        module, shape = calls[index].module, calls[index].output
        is_inner = not own_children(module)  # a chosen module may have parts
        has_weights = any(True for _ in module.parameters())
        if (is_inner and has_weights) if head is None else module is head:
            size = 0 if shape is None else shape[_channel_dim(module, shape)]
            # two logits are made of one for a question that is answered with yes or no
            return index if size == classes or classes == 2 else None
    return None


def _channel_dim(module: nn.Module, shape: torch.Size) -> int:
    return 1 if len(shape) > 3 or (len(shape) == 3 and isinstance(module, CHANNELS_FIRST)) else -1
