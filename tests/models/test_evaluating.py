"""A network in evaluation mode for a while."""

from __future__ import annotations

import pytest
from torch import nn

from kdlight.models.evaluating import evaluating


def test_each_part_gets_its_own_mode_back_also_after_an_error() -> None:
    network = nn.Sequential(nn.BatchNorm1d(2).eval(), nn.Sequential(nn.Dropout()))
    before = [part.training for part in network.modules()]
    assert True in before
    assert False in before
    seen = []

    def fail() -> None:
        with evaluating(network):
            seen.extend(part.training for part in network.modules())
            raise KeyError

    pytest.raises(KeyError, fail)
    assert seen == [False] * len(before)
    assert [part.training for part in network.modules()] == before
