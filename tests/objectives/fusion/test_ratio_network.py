"""The network of the ratio: its layers, and that nothing trains it by accident."""

from __future__ import annotations

import pytest
import torch

from kdlight.objectives.fusion.ratio_network import RatioNetwork


def test_layers_are_those_of_the_authors():
    network = RatioNetwork(27)
    assert [tuple(p.shape) for p in network.parameters()] == [
        (32, 27), (32,), (16, 32), (16,), (1, 16), (1,),
    ]  # fmt: skip
    x = torch.randn(5, 27)
    first, second = (torch.nn.functional.leaky_relu, torch.nn.functional.leaky_relu)
    hidden = second(network[2](first(network[0](x), 0.01)), 0.01)
    torch.testing.assert_close(network(x), network[4](hidden)[:, 0].sigmoid())


def test_no_parameter_requires_a_gradient():
    network = RatioNetwork(3)
    assert not any(p.requires_grad for p in network.parameters())
    assert not network(torch.randn(2, 3, requires_grad=True).detach()).requires_grad


def test_it_computes_in_the_precision_of_its_weights():
    network = RatioNetwork(3)
    rows = torch.randn(4, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ratio = network(rows.double())
    assert ratio.dtype == torch.float32
    assert torch.equal(ratio, network(rows))


def test_features_must_be_a_number_above_zero():
    with pytest.raises(ValueError, match="features must be at least 1, got 0"):
        RatioNetwork(0)
