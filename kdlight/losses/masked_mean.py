"""Mean over the valid positions of a mask."""

from __future__ import annotations

from torch import Tensor

from kdlight.losses.labels import check_mask
from kdlight.losses.log_space import widen


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of per-token losses over valid positions, (...), (...) -> ().

    The result is 0, with a graph, if no position is valid.

    Values at masked positions, NaN and infinity included, change neither the mean nor the gradient
    of ``values``. If the logits at masked positions are NaN, select the valid positions before
    computing the loss: backpropagation through NaN logits gives NaN even for a gradient of 0.

    Args:
        values: Per-token losses.
        mask: True (or a non-zero integer) at valid positions, of the same shape. None means all.

    Returns:
        The mean, in float32 or wider.

    Raises:
        ValueError: If the shapes differ.
        TypeError: If the mask is floating point.

    >>> import torch
    >>> masked_mean(torch.tensor([1.0, 3.0, float("nan")]), torch.tensor([True, True, False]))
    tensor(2.)
    """
    values = widen(values)
    if mask is None:
        return values.sum() / max(values.numel(), 1)
    if mask.shape != values.shape:
        raise ValueError(
            f"mask must have the shape of values, {tuple(values.shape)}, got {tuple(mask.shape)}"
        )
    check_mask("mask", mask)
    valid = mask.bool()
    return values.masked_fill(~valid, 0.0).sum() / valid.sum().clamp(min=1)
