"""The mean over the positions a mask keeps."""

from __future__ import annotations

from torch import Tensor

from kdlight.losses.log_space import widen


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of the values a mask keeps, (...), (...) -> (); 0, with a graph, if it keeps none.

    What stands at a masked position, NaN and inf included, reaches neither the mean nor the
    gradient of ``values``. Where the logits behind it are NaN too, select the valid rows before the
    loss: the chain rule through NaN logits is NaN whatever multiplies it.

    Args:
        values: Per-token losses.
        mask: True (or non-zero) where a position counts, of the same shape; None keeps all.

    Raises:
        ValueError: If the shapes differ.

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
    kept = mask.bool()
    return values.masked_fill(~kept, 0.0).sum() / kept.sum().clamp(min=1)
