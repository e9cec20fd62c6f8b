"""Layers whose weights are computed by parametrizations, which are no parts with features."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.parametrize import is_parametrized


def own_children(module: nn.Module) -> list[nn.Module]:
    """Return the children of a module without what computes its parametrized weights.

    Example:
        >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))
        >>> len(list(layer.children())), own_children(layer)
        (1, [])
    """
    return [
        child
        for name, child in module.named_children()
        if not (name == "parametrizations" and is_parametrized(module))
    ]


def inner_modules(network: nn.Module) -> list[nn.Module]:
    """Return the modules of a network that have no parts, such as its layers, each once.

    Example:
        >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))
        >>> [type(each).__name__ for each in inner_modules(nn.Sequential(layer, nn.ReLU()))]
        ['ParametrizedLinear', 'ReLU']
    """
    found: dict[int, nn.Module] = {}
    stack = [network]
    while stack:
        module = stack.pop()
        children = own_children(module)
        if not children:
            found.setdefault(id(module), module)
        stack.extend(reversed(children))
    return list(found.values())
