"""The metrics of pairs of modules: means over positions, whatever the sizes of batches."""

from __future__ import annotations

import pytest
import torch

from kdlight.modules.layer_metrics import LayerwiseMetrics


def test_means_of_modules_weigh_positions_equally() -> None:
    metrics = LayerwiseMetrics(["a.b", "c"])
    for number, size in ((6.0, 4), (1.0, 1)):
        totals = {"a.b": torch.tensor(number), "c": torch.tensor(0.0)}
        metrics.update_modules(totals, torch.tensor(size))
    metrics.update_modules({"a.b": torch.tensor(0.0)}, torch.tensor(0))
    assert metrics.compute()["modules/a.b"].item() == pytest.approx(7 / 5)
    assert metrics.compute()["modules/c"].item() == 0
    metrics.reset()
    assert metrics.compute() == {}
