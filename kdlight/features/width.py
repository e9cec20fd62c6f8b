"""The number of channels of a feature, as far as its module tells."""

from __future__ import annotations

from torch import nn

from kdlight.features.paths import FeaturePath, find_module

OUTPUT = ("out_features", "out_channels", "nf", "embedding_dim", "num_features")
INPUT = ("in_features", "in_channels", "nx", "num_features")


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
    parsed = FeaturePath.parse(path)
    return _width(find_module(network, path), parsed.side)


def _width(module: nn.Module, side: str) -> int | None:
    for name in OUTPUT if side == "output" else INPUT:
        value = getattr(module, name, None)
        if isinstance(value, int):
            return value
    children = list(module.children())
    for child in reversed(children) if side == "output" else children:
        width = _width(child, side)
        if width is not None:
            return width
    weight = getattr(module, "weight", None)  # of a normalization
    if isinstance(weight, nn.Parameter) and weight.dim() == 1 and not children:
        return weight.shape[0]
    return None
