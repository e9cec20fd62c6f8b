"""Bins of equal width for confidences, which include their upper or their lower edge."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from kdlight.checks import check_at_least, check_choice
from kdlight.losses.log_space import widen

Closed: TypeAlias = Literal["right", "left"]


def bin_indices(confidence: Tensor, bins: int, closed: Closed = "right") -> Tensor:
    """Return the bin of each confidence, (...) -> (...), see `kdlight.metrics.CalibrationError`.

    Example:
        >>> confidence = torch.tensor([0.0, 0.5, 0.6, 1.0])
        >>> bin_indices(confidence, 2), bin_indices(confidence, 2, "left")
        (tensor([0, 0, 1, 1]), tensor([0, 1, 1, 2]))
    """
    if closed == "right":
        confidence = widen(confidence)
        # rounded like the confidences, so that one which is an edge equals it
        edges = torch.arange(bins + 1, dtype=torch.float64, device=confidence.device) / bins
        edges = edges.to(confidence.dtype)
    else:  # to the bit those of torchmetrics
        confidence = confidence.float()
        edges = torch.linspace(0, 1, bins + 1, dtype=torch.float32, device=confidence.device)
    index = torch.bucketize(confidence, edges, right=closed == "left") - 1
    return index.clamp(0, bins - 1 if closed == "right" else bins)


def check_bins(bins: int, closed: str) -> None:
    """Raise an error for bins that `bin_indices` cannot make.

    Raises:
        ValueError: bins is below 1, or closed is neither ``"right"`` nor ``"left"``.
    """
    check_at_least("bins", bins, 1)
    check_choice("closed", closed, ("right", "left"))


def bin_count(bins: int, closed: Closed) -> int:
    """Return the number of different bins that `bin_indices` returns."""
    return bins if closed == "right" else bins + 1
