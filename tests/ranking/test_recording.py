"""The tensors of a forward pass are those that a network computes with."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdlight.models.digits import ConvNet, TinyNet
from kdlight.ranking.places import find_places
from kdlight.ranking.recording import record
from tests.ranking.test_places import Tied

IMAGES = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_tensors_are_those_of_the_network() -> None:
    network = ConvNet(channels=4).eval()
    seen = record(network, IMAGES, find_places(network, IMAGES))
    maps = nn.Sequential(*list(network)[:8])(IMAGES)
    assert torch.equal(seen.features, maps)
    assert torch.equal(seen.inputs, maps.flatten(1))
    assert torch.equal(seen.outputs, network(IMAGES))
    assert torch.equal(seen.logits, network(IMAGES))


@pytest.mark.parametrize("frozen", [True, False])
def test_the_logits_have_a_graph_from_the_classifier_on(frozen: bool) -> None:
    network = nn.Sequential(TinyNet(), nn.Softplus()).requires_grad_(not frozen)
    seen = record(network, IMAGES, find_places(network, IMAGES))
    (slopes,) = torch.autograd.grad(seen.logits.sum(), seen.outputs)
    torch.testing.assert_close(slopes, seen.outputs.detach().sigmoid())
    assert not seen.features.requires_grad
    assert all(p.grad is None for p in network.parameters())


def test_tensors_that_are_changed_in_place_are_recorded_as_they_were() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(inplace=True), nn.Linear(4, 3))
    seen = record(network, IMAGES, find_places(network, IMAGES, "1"))
    assert torch.equal(seen.features, network[1](IMAGES.flatten(1)))
    assert (seen.features < 0).any()
    in_place = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(inplace=True))
    last = record(in_place, IMAGES, find_places(in_place, IMAGES))
    assert torch.equal(last.logits, in_place(IMAGES))
    assert torch.equal(last.outputs, in_place[1](IMAGES.flatten(1)))


def test_a_classifier_that_is_no_module() -> None:
    network, ids = Tied(), torch.arange(6).view(2, 3)
    seen = record(network, ids, find_places(network, ids))
    assert torch.equal(seen.inputs, network.norm(network.embedding(ids)))
    assert torch.equal(seen.logits, network(ids))
    assert seen.outputs is seen.logits
    assert seen.logits.is_leaf
    assert seen.logits.requires_grad


def test_no_hook_is_left_after_an_error() -> None:
    network = ConvNet().eval()
    places = find_places(network, IMAGES)
    with pytest.raises(RuntimeError):
        record(network, torch.zeros(3, 2, 8, 8), places)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
