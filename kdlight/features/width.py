"""The number of channels of a feature, as far as its module tells."""

from __future__ import annotations

from torch import nn

from kdlight.features.paths import FeaturePath, find_module

OUTPUT = ("out_features", "out_channels", "nf", "embedding_dim", "num_features")
INPUT = ("in_features", "in_channels", "nx", "num_features")
MAPS = (nn.Conv2d, nn.Conv3d, nn.BatchNorm2d, nn.BatchNorm3d)


def feature_width(network: nn.Module, path: str) -> int | None:
    """Return the number of channels of a feature; None if its module does not tell.

    A module that does not tell itself has the width of the last of its children that does, or of
    the first for an input.

    Args:
        network: the network.
        path: see `kdlight.features.FeaturePath`.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU())
        >>> feature_width(network, ""), feature_width(network, ":input")
        (8, 3)
        >>> feature_width(network, "2") is None
        True
    """
    found = _find(find_module(network, path), FeaturePath.parse(path).side)
    return None if found is None else found[1]


def is_map(network: nn.Module, path: str) -> bool:
    """Return whether a feature is known to be a map, ``(B, C, H, W)``, by the same module.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Flatten(), nn.Linear(8, 2))
        >>> is_map(network, ":input"), is_map(network, "")
        (True, False)
    """
    found = _find(find_module(network, path), FeaturePath.parse(path).side)
    return found is not None and isinstance(found[0], MAPS)


def _find(module: nn.Module, side: str) -> tuple[nn.Module, int] | None:
    """Return the module that tells the number of channels, and the number."""
    for name in OUTPUT if side == "output" else INPUT:
        value = getattr(module, name, None)
        if isinstance(value, int):
            return module, value
    children = list(module.children())
    for child in reversed(children) if side == "output" else children:
        found = _find(child, side)
        if found is not None:
            return found
    weight = getattr(module, "weight", None)  # of a normalization
    if isinstance(weight, nn.Parameter) and weight.dim() == 1 and not children:
        return module, weight.shape[0]
    return None
