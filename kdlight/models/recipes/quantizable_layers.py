"""The layers of a network whose weights are to be quantized."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from kdlight.models.baking import has_parametrizations
from kdlight.models.recipes.adapted_causal_lm import AdaptedCausalLM

ENDS = {"first": 0, "last": -1}
"""Names in ``skip`` of the first and the last layer."""


def layer_types(*, only_linear: bool = False) -> tuple[type, ...]:
    """Return the types of layers whose weights are quantized.

    Example:
        >>> layer_types(only_linear=True)
        (<class 'torch.nn.modules.linear.Linear'>,)
    """
    if only_linear:
        return (nn.Linear,)
    # no network has this layer before transformers is imported
    of_transformers: Any = sys.modules.get("transformers.pytorch_utils")
    others = () if of_transformers is None else (of_transformers.Conv1D,)
    return (nn.Linear, _ConvNd, nn.Embedding, *others)


def quantizable_layers(
    network: nn.Module, types: tuple[type, ...], skip: Sequence[str]
) -> dict[str, Any]:
    """Return the layers to quantize by path.

    Args:
        network: the network.
        types: types of layers with a ``weight``.
        skip: ``"first"`` and ``"last"`` for the first and the last layer of these types, in the
            order in which the network holds them; and paths of modules, which skip all layers in
            them.

    Raises:
        ValueError: If a path leads to no such layer, nothing is left, a weight that is left is tied
            to another one, or the network has parametrizations, adapters or quantized weights.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2))
        >>> list(quantizable_layers(network, layer_types(), ["first", "last"]))
        ['2']
    """
    _check_network(network)
    found = {path: module for path, module in network.named_modules() if isinstance(module, types)}
    skipped = set()
    for each in skip:
        inside = [path for path in found if f"{path}.".startswith(f"{each}.")]
        if each in ENDS and found:
            inside = [list(found)[ENDS[each]]]
        if not inside:
            raise ValueError(
                f"skip={each!r} leads to no layer of {type(network).__name__} that would be"
                f" quantized; these are: {_listed(found)}"
            )
        skipped.update(inside)
    layers = {path: layer for path, layer in found.items() if path not in skipped}
    if not layers:
        kinds = ", ".join(kind.__name__.removeprefix("_") for kind in types)
        raise ValueError(
            f"nothing to quantize: {type(network).__name__} has {len(found)} layers of the types"
            f" {kinds}, and skip={list(skip)} skips all of them; set skip to fewer, or to []"
        )
    _check_weights(network, layers)
    return layers


def _check_network(network: nn.Module) -> None:
    name = type(network).__name__
    if isinstance(network, AdaptedCausalLM) or any(
        hasattr(module, "peft_config") for module in network.modules()
    ):
        raise ValueError(
            f"{name} has adapters (LoRA), whose weights are added to those of their layers; merge"
            " them first, and quantize the merged model"
        )
    if has_parametrizations(network):
        raise ValueError(
            f"{name} has parametrized weights already, such as those of weight normalization or"
            " another Quantized; remove them first:"
            " torch.nn.utils.parametrize.remove_parametrizations"
        )
    if any(getattr(module, "hf_quantizer", None) is not None for module in network.modules()):
        raise ValueError(
            f"{name} was quantized when it was loaded; load it without a quantization config"
        )


def _check_weights(network: nn.Module, layers: dict[str, Any]) -> None:
    owners: dict[int, list[str]] = defaultdict(list)
    for path, module in network.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            owners[id(parameter)].append(f"{path}.{name}" if path else name)
    for path, layer in layers.items():
        weight = layer._parameters.get("weight")
        if weight is None or not weight.is_floating_point():
            raise ValueError(
                f"the weight of {path!r} ({type(layer).__name__}) is no floating-point parameter:"
                " it is computed from others, or packed; skip this layer"
            )
        if len(names := owners[id(weight)]) > 1:
            raise ValueError(
                f"the weight of {path!r} is tied ({', '.join(names)}), and only one of the two"
                " would be quantized; skip these layers (of tied embeddings: 'first' and 'last'),"
                " or untie them"
            )


def _listed(paths: Any) -> str:
    names = [repr(path) for path in paths]
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return (", ".join(names[:8]) or "none") + more
