"""Which positions of features are padding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from kdlight.data.label_positions import padding_mask
from kdlight.models.audio_frames import frame_mask


def feature_masks(
    features: Mapping[str, Tensor], batch: Any, network: Any = None
) -> dict[str, Tensor]:
    """Return the masks ``(B, T)`` of features ``(B, T, D)`` whose padding is known, by path.

    Args:
        features: features by path; those of other shapes have no mask.
        batch: the batch, whose ``attention_mask`` marks padding.
        network: the network of the features, which may shorten sound to frames; None if unknown.

    Returns:
        Boolean masks, False at padding, for ``feature_masks`` of `kdlight.LossInputs`.

    Example:
        >>> import torch
        >>> batch = {"attention_mask": torch.tensor([[1, 1, 0]])}
        >>> feature_masks({"a": torch.zeros(1, 3, 8), "b": torch.zeros(1, 8)}, batch)
        {'a': tensor([[ True,  True, False]])}
    """
    masks: dict[str, Tensor] = {}
    for path, feature in features.items():
        if feature.dim() != 3:
            continue
        mask = padding_mask(batch, feature.shape[:2], is_encoder_decoder=False)
        if mask is None:
            mask = frame_mask(network, batch, feature.shape[:2])
        if mask is not None:
            masks[path] = mask
    return masks
