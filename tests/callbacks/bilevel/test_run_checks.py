"""Runs that cannot train a ratio are refused; tests/callbacks/test_bilevel_update.py has fits."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch.strategies import (
    DDPStrategy,
    FSDPStrategy,
    SingleDeviceStrategy,
)
from torch import nn

from kdlight.callbacks.bilevel.run_checks import check_precision, check_strategy
from kdlight.distributed import FSDP2Strategy


def test_strategies_that_own_or_divide_the_weights_are_refused():
    for strategy in (SingleDeviceStrategy("cpu"), DDPStrategy()):
        check_strategy(strategy, "exact")
    check_strategy(FSDP2Strategy(), "finite_difference")
    with pytest.raises(ValueError, match=r"such as FSDPStrategy; use one device, DDP or FSDP2"):
        check_strategy(FSDPStrategy(), "finite_difference")
    with pytest.raises(ValueError, match="use form='finite_difference'"):
        check_strategy(FSDP2Strategy(), "exact")
    with pytest.raises(ValueError, match="set tensor_parallel_size to 1, got 2"):
        check_strategy(FSDP2Strategy(tensor_parallel_size=2), "finite_difference")


def test_only_trained_weights_in_half_precision_are_refused():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).to(torch.float16))
    with pytest.raises(ValueError, match=r"1.weight is in half precision; use mixed precision"):
        check_precision(network, "finite_difference")
    check_precision(network, "exact")
    network[1].requires_grad_(False)
    check_precision(network, "finite_difference")
