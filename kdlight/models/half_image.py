"""A network that sees one half of an image."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from kdlight.checks import check_choice


class HalfImage(nn.Module):
    """Passes a network images of which one half is 0, (B, C, H, W) -> what the network returns.

    Two halves stand for two modalities of one sample: a teacher may know what its student cannot
    see (`configs/mst.yaml`).

    Args:
        net: the network, for images of the whole size.
        side: the half that it sees, ``"left"`` or ``"right"``.

    Raises:
        ValueError: If ``side`` is neither.

    Example:
        >>> import torch
        >>> HalfImage(nn.Flatten(), "left")(torch.ones(1, 1, 1, 4))
        tensor([[1., 1., 0., 0.]])
    """

    def __init__(self, net: nn.Module, side: Literal["left", "right"]) -> None:
        super().__init__()
        check_choice("side", side, ("left", "right"))
        self.net, self.side = net, side

    def forward(self, images: Tensor) -> Tensor:
        """Run the network on one half of the images."""
        half = images.shape[-1] // 2
        seen = images.clone()
        hidden = seen[..., half:] if self.side == "left" else seen[..., :half]
        hidden.zero_()
        return self.net(seen)
