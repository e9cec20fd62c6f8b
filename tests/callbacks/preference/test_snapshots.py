"""Copies of weights, and which of them is restored."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdlight.callbacks.preference.snapshots import WeightSnapshots


@pytest.mark.parametrize(("good", "restored"), [(True, 2.0), (False, 1.0)])
def test_a_copy_is_restored_if_it_was_confirmed(good: bool, restored: float) -> None:
    weight = nn.Parameter(torch.ones(3))
    snapshots = WeightSnapshots([weight])
    with torch.no_grad():
        weight.fill_(2.0)
    snapshots.add([weight])
    snapshots.confirm(good)
    with torch.no_grad():
        weight.fill_(3.0)
    snapshots.restore([weight])
    assert weight.tolist() == [restored] * 3


def test_a_copy_that_was_never_confirmed_is_dropped_by_a_restore() -> None:
    weight = nn.Parameter(torch.ones(3))
    snapshots = WeightSnapshots([weight])
    with torch.no_grad():
        weight.fill_(2.0)
    snapshots.add([weight])
    snapshots.restore([weight])
    snapshots.confirm(True)
    with torch.no_grad():
        weight.fill_(3.0)
    snapshots.restore([weight])
    assert weight.tolist() == [1.0] * 3
