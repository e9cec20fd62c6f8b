"""Which frames of a model of sound are padding, where its mask counts samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kdlight.models.model_kind import wrapped_model


def frame_mask(network: Any, batch: Any, positions: torch.Size) -> Tensor | None:
    """Return the mask ``(B, T)`` of logits whose model shortens the sound in ``batch`` to T frames.

    Args:
        network: such as a ``Wav2Vec2ForCTC``, whose own mask of frames it is.
        batch: with an ``attention_mask`` ``(B, samples)``.
        positions: the positions ``(B, T)`` of the logits.

    Returns:
        None if the batch has no such mask, or the network does not shorten it.

    Example:
        >>> frame_mask(torch.nn.Linear(2, 3), {}, torch.Size([1, 4])) is None
        True
    """
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    if not isinstance(mask, Tensor) or mask.dim() != 2 or len(positions) != 2:
        return None
    model = wrapped_model(network)
    if hasattr(model, "_get_feature_vector_attention_mask"):  # Wav2Vec2 and those like it
        frames = model._get_feature_vector_attention_mask(positions[1], mask)
    elif hasattr(model, "_get_output_attention_mask"):  # Parakeet and those like it
        frames = model._get_output_attention_mask(mask, target_length=positions[1])
    else:
        return None
    return frames.bool() if frames.shape == positions else None
