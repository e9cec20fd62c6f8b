"""Sums and counts of depths become means."""

from __future__ import annotations

from math import isnan
from pathlib import Path

import torch

from kdlight.callbacks.elastic.depth_means import depth_means
from tests.support.runs import trainer


def test_sums_are_divided_by_counts(tmp_path: Path) -> None:
    sums = {4: torch.tensor([3.0, 2.0]), 7: torch.tensor([0.0, 0.0])}
    means = depth_means(trainer(tmp_path), sums)
    assert means[4] == 1.5
    assert isnan(means[7])  # not 0, which would be the best loss of all
    assert depth_means(trainer(tmp_path), {}) == {}
