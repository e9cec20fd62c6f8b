"""Strategies that keep networks whole are told from those that divide or flatten them."""

from __future__ import annotations

import pytest
from lightning.pytorch.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    SingleDeviceStrategy,
    Strategy,
)

from kdlight.distributed.whole import keeps_networks_whole


def test_one_device_and_ddp_keep_networks_whole() -> None:
    assert keeps_networks_whole(SingleDeviceStrategy())
    assert keeps_networks_whole(DDPStrategy())


@pytest.mark.parametrize("strategy", [FSDPStrategy, ModelParallelStrategy, DeepSpeedStrategy])
def test_others_do_not(strategy: type[Strategy]) -> None:
    assert not keeps_networks_whole(strategy.__new__(strategy))  # DeepSpeed is not installed
