"""Linear layers between modules of different widths."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from torch import nn

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS = {nn.BatchNorm2d: 2, nn.BatchNorm3d: 3, nn.InstanceNorm2d: 2, nn.InstanceNorm3d: 3}

KEEPS_WIDTH = (
    *(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish),
    *(nn.Tanh, nn.Sigmoid, nn.Softplus, nn.PReLU, nn.Softmax, nn.LogSoftmax, nn.Hardtanh),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d),
)
"""Layers that change neither the number of channels nor the axis that has them."""

Side = Literal["input", "output"]


class Width(NamedTuple):
    """The number of channels at one side of a module.

    Attributes:
        channels: the number of channels.
        dims: number of axes after that of the channels: 0 for ``(..., C)``, 2 for ``(B, C, H, W)``.

    Example:
        >>> Width(64)
        Width(channels=64, dims=0)
    """

    channels: int
    dims: int = 0

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.channels} channels" + (f" in maps of {self.dims} axes" if self.dims else "")


def width_of(module: nn.Module, side: Side) -> Width | None:
    """Return the width of a module at its input or output; None if the module does not tell.

    It is told by the layers of PyTorch, by a ``hidden_size`` as layers of transformers have it, and
    in an `torch.nn.Sequential` by the outermost layer that can change the width.

    Example:
        >>> module = nn.Sequential(nn.Linear(8, 3), nn.ReLU())
        >>> width_of(module, "input"), width_of(module, "output")
        (Width(channels=8, dims=0), Width(channels=3, dims=0))
        >>> width_of(nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten()), "output") is None
        True
    """
    if isinstance(module, nn.Sequential):
        for child in module if side == "input" else reversed(list(module)):
            if not isinstance(child, KEEPS_WIDTH):
                return width_of(child, side)
        return None
    is_input = side == "input"
    layer: Any = module
    for dims, kinds in enumerate(zip(CONVOLUTIONS.values(), TRANSPOSED, strict=True), start=1):
        if isinstance(module, kinds):
            return Width(layer.in_channels if is_input else layer.out_channels, dims)
    for kind, dims in NORMS.items():
        if isinstance(module, kind):
            return Width(layer.num_features, dims)
    if isinstance(module, nn.LayerNorm):
        return Width(module.normalized_shape[-1])
    if isinstance(module, nn.Embedding):
        return None if is_input else Width(module.embedding_dim)
    if isinstance(module, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)):
        return Width(module.self_attn.embed_dim)
    for name in ("in_features" if is_input else "out_features", "hidden_size"):
        if isinstance(getattr(module, name, None), int):
            return Width(getattr(module, name))
    return None


def make_stitch(first: Width, second: Width) -> nn.Module:
    """Return a trainable linear map from one width to another: in maps a convolution of size 1.

    Raises:
        ValueError: If one width is that of maps, and the other is not.

    Example:
        >>> make_stitch(Width(4), Width(6))
        Linear(in_features=4, out_features=6, bias=True)
    """
    if first.dims != second.dims:
        raise ValueError(
            f"no linear layer leads from {first} to {second}; put a layer of your own into the"
            " module and set stitch=False"
        )
    if not first.dims:
        return nn.Linear(first.channels, second.channels)
    return CONVOLUTIONS[first.dims](first.channels, second.channels, 1)
