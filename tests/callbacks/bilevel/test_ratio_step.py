"""A step of the ratio network."""

from __future__ import annotations

import pytest
import torch

from kdlight.callbacks.bilevel.ratio_step import step_ratio
from kdlight.modules.guards import NonFiniteLossError
from kdlight.objectives.fusion.ratio_network import RatioNetwork
from tests.support.bilevel_fit import quiet_trainer


def test_the_gradient_is_that_of_the_weighted_sum_of_ratios():
    network, rows, slopes = RatioNetwork(4), torch.randn(6, 4), torch.randn(6).double()
    before = [p.clone() for p in network.parameters()]
    with torch.enable_grad():
        network.requires_grad_(True)
        total = (network(rows) * slopes.float()).sum()
        expected = torch.autograd.grad(total, list(network.parameters()))
        network.requires_grad_(False)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    step_ratio(quiet_trainer(), network, optimizer, rows, slopes)
    for parameter, old, gradient in zip(network.parameters(), before, expected, strict=True):
        torch.testing.assert_close(parameter, old - 0.5 * gradient)
        assert parameter.grad is None
        assert not parameter.requires_grad


def test_no_rows_are_a_gradient_of_zero():
    network = RatioNetwork(4)
    before = [p.clone() for p in network.parameters()]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    step_ratio(quiet_trainer(), network, optimizer, torch.zeros(0, 4), torch.zeros(0))
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), before, strict=True))


def test_what_is_not_finite_changes_nothing():
    network = RatioNetwork(4)
    before = [p.clone() for p in network.parameters()]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    with pytest.raises(NonFiniteLossError, match="the gradient of the ratio in optimizer step 0"):
        step_ratio(quiet_trainer(), network, optimizer, torch.ones(1, 4), torch.tensor([torch.inf]))
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), before, strict=True))
    assert not any(p.requires_grad for p in network.parameters())
