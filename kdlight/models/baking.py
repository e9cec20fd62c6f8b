"""Parametrized weights written as plain ones, for use without what computes them."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.func import functional_call
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from kdlight.models.evaluating import evaluating


def has_parametrizations(network: nn.Module) -> bool:
    """Return whether a weight of a network is computed by `torch.nn.utils.parametrize`.

    Example:
        >>> has_parametrizations(torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 3)))
        True
    """
    return any(is_parametrized(module) for module in network.modules())


def bake(network: nn.Module) -> nn.Module:
    """Return a copy of a network in evaluation mode, with plain weights in place of parametrized.

    Its outputs are those of the network in evaluation mode.

    Args:
        network: a network of any kind; it is not changed.

    Raises:
        ValueError: If a parametrized weight is tied to another one, or the network is sharded.

    Example:
        >>> layer = torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))
        >>> [name for name, _ in bake(layer).named_parameters()]
        ['bias', 'weight']
    """
    if any(isinstance(parameter, DTensor) for parameter in network.parameters()):
        raise ValueError(
            f"{type(network).__name__} is sharded over ranks, of which each has a part; export it"
            " with kdlight.callbacks.ExportStudent, or from a checkpoint"
        )
    _check_untied(network)
    plain = copy.deepcopy(network).eval()
    for module in plain.modules():
        if is_parametrized(module):
            _replace(module)
    return plain


def _replace(module: Any) -> None:
    """Replace the parametrizations of a copy.

    torch's ``remove_parametrizations`` would change the class, which a copy and its original share.
    """
    values = {name: getattr(module, name).detach().clone() for name in module.parametrizations}
    inside = dict(module.parametrizations.items())
    del module.parametrizations
    module.__class__ = type(module).__bases__[0]
    for name, value in values.items():
        parameters = list(inside[name].parameters())
        if parameters:
            is_trained = any(parameter.requires_grad for parameter in parameters)
            module.register_parameter(name, nn.Parameter(value, requires_grad=is_trained))
        else:
            module.register_buffer(name, value)


@torch.no_grad()
def bake_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of a network by name, with plain ones in place of parametrized.

    Args:
        network: the network, which may be sharded; only its parametrizations are run.
        weights: its whole state dict.

    Raises:
        ValueError: If a parametrized weight is tied to another one.

    Example:
        >>> layer = torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))
        >>> sorted(bake_weights(layer, layer.state_dict()))
        ['bias', 'weight']
    """
    _check_untied(network)
    baked = dict(weights)
    for prefix, name, parametrization in _parametrized(network):
        inside = f"{prefix}parametrizations.{name}."
        own = {key: baked.pop(key) for key in list(baked) if key.startswith(inside)}
        own = {key.removeprefix(inside): value for key, value in own.items()}
        with evaluating(parametrization):  # spectral normalization changes its state in training
            baked[prefix + name] = functional_call(parametrization, own, ()).clone()
    return baked


def _parametrized(network: nn.Module) -> Iterator[tuple[str, str, ParametrizationList]]:
    """Yield the path of each module with a dot, the name of its tensor, and what computes it."""
    for path, module in network.named_modules(remove_duplicate=False):
        if is_parametrized(module):
            for name, parametrization in module.parametrizations.items():  # type: ignore[operator]
                yield f"{path}." if path else "", name, parametrization


def _check_untied(network: nn.Module) -> None:
    """Raise a ValueError where another module has the parameter of a parametrization."""
    owners: dict[int, list[str]] = defaultdict(list)
    for path, module in network.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            owners[id(parameter)].append(f"{path}.{name}" if path else name)
    for _, _, parametrization in _parametrized(network):
        for parameter in parametrization.parameters():
            if len(names := owners[id(parameter)]) > 1:
                raise ValueError(
                    f"{type(network).__name__} has a parametrized weight that is tied to another"
                    f" one ({', '.join(names)}), and the two would differ when they are written;"
                    " parametrize no tied weights"
                )
