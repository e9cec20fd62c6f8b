"""The network that masks a feature of a teacher."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdlight.checks import check_integer
from kdlight.objectives.features.channels import channel_axis, channels_last


class FeatureMask(nn.Module):
    r"""Computes a mask between 0 and 1 for the D channels of a feature, from the feature itself.

    .. math:: m(x) = \sigma\bigl(W_2\, \mathrm{Attention}(W_1 x)\bigr), \qquad
              W_1: D \to D \times h, \quad W_2: h \to 1

    The attention is over the D channels, each with h numbers, h being the largest multiple of the
    number of heads up to D/2. Li, Yang et al., "MST-Distill: Mixture of Specialized Teachers for
    Cross-Modal Knowledge Distillation", 2025, as in the code, for features of one axis. Two choices
    are made here for others: the tokens of a sequence have a mask each, so that none sees another;
    a map has one mask of its channels, from their means over the map.

    The number of weights grows with the cube of D: 0.1 million for 64 channels, 8 for 256.

    Args:
        size: D.
        heads: number of attention heads, at most D/2.

    Raises:
        ValueError: a number below 1, or too many heads.

    Example:
        >>> FeatureMask(8)(torch.zeros(2, 8)).shape
        torch.Size([2, 8])
    """

    def __init__(self, size: int, heads: int = 3) -> None:
        super().__init__()
        check_integer("size", size, 1)
        check_integer("heads", heads, 1)
        if 2 * heads > size:
            raise ValueError(
                f"heads must be at most {size // 2} for a feature of {size} channels, got {heads}"
            )
        self.size, self.width = size, size // (2 * heads) * heads
        self.expand = nn.Linear(size, self.width * size)
        self.attention = nn.MultiheadAttention(self.width, heads, batch_first=True)
        self.contract = nn.Linear(self.width, 1)

    def forward(self, feature: Tensor) -> Tensor:
        """Compute the mask of a feature, (B, D), (B, T, D) or (B, D, ...), in a shape to multiply.

        Raises:
            ValueError: the feature has another number of channels.
        """
        rows = channels_last(feature)
        if rows.shape[-1] != self.size:
            raise ValueError(
                f"the mask was made for {self.size} channels, but the feature has shape"
                f" {tuple(feature.shape)}; pass sizes={{path: {rows.shape[-1]}}}"
            )
        if feature.dim() > 3:
            rows = rows.flatten(1, -2).mean(1)
        shape = rows.shape
        with torch.autocast(feature.device.type, enabled=False):
            rows = rows.reshape(-1, self.size).to(self.expand.weight.dtype)
            channels = self.expand(rows).unflatten(-1, (self.size, self.width))
            attended, _ = self.attention(channels, channels, channels, need_weights=False)
            mask = self.contract(attended).squeeze(-1).sigmoid()
        mask = mask.to(feature.dtype).reshape(shape)
        if feature.dim() > 3:
            mask = mask.reshape(*shape, *[1] * (feature.dim() - 1 - channel_axis(feature)))
        return mask
