"""Bytes of optimizer state."""

from __future__ import annotations

import torch
from torch import nn

from kdlight.doctor.optimizer_state import optimizer_bytes, state_bytes
from kdlight.modules.optimizers import PartitionedOptimizer
from tests.support.doctor_runs import make_module


def test_an_optimizer_that_makes_no_step_by_itself_is_not_guessed() -> None:
    assert state_bytes(torch.optim.LBFGS(nn.Linear(3, 2).parameters())) is None


def test_the_state_is_that_after_a_step() -> None:
    net = nn.Linear(30, 20)
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(2, 30)).sum().backward()
    optimizer.step()
    kept = sum(value.nbytes for state in optimizer.state.values() for value in state.values())
    assert state_bytes(torch.optim.AdamW(net.parameters())) == kept


def test_a_partitioned_optimizer_has_the_state_of_both() -> None:
    first, second = nn.Linear(30, 20), nn.Linear(10, 5)
    both = [torch.optim.AdamW(first.parameters()), torch.optim.Adagrad(second.parameters())]
    apart = sum(
        state_bytes(optimizer) or 0
        for optimizer in (
            torch.optim.AdamW(first.parameters()),
            torch.optim.Adagrad(second.parameters()),
        )
    )
    assert state_bytes(PartitionedOptimizer(both)) == apart


def test_the_dtype_of_weights_is_that_of_the_state() -> None:
    full, half = (
        optimizer_bytes(make_module("toy", "SGD"), weight_dtype=dtype)
        for dtype in (None, torch.bfloat16)
    )
    assert full == 2 * half  # type: ignore[operator]  # momentum
