"""Bins of confidences: every confidence is in one, and an edge in the right one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight.metrics.bins import bin_count, bin_indices, check_bins


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_edge_belongs_to_the_bin_that_it_closes(dtype: torch.dtype) -> None:
    for bins in range(1, 40):
        edges = torch.tensor([m / bins for m in range(bins + 1)], dtype=torch.float64).to(dtype)
        assert bin_indices(edges, bins).tolist() == [0, *range(bins)]


@pytest.mark.parametrize("closed", ["right", "left"])
def test_every_confidence_is_in_a_bin(closed: Any) -> None:
    confidence = torch.cat([torch.rand(1000), torch.tensor([0.0, 1.0, torch.nan])])
    for bins in (1, 15):
        index = bin_indices(confidence, bins, closed)
        assert index.min() >= 0
        assert index.max() == bin_count(bins, closed) - 1


def test_bins_are_checked() -> None:
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        check_bins(0, "right")
    with pytest.raises(ValueError, match="closed must be one of 'right', 'left', got 'both'"):
        check_bins(1, "both")
