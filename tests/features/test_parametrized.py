"""What computes a parametrized weight is no part of a network that has features."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from kdlight import SingleInput, rank_students
from kdlight.features import find_modules
from kdlight.features.parametrized import inner_modules, own_children
from kdlight.features.paths import modules_by_name
from kdlight.models import Quantized
from kdlight.models.digits import ConvNet


def test_layers_with_parametrized_weights_have_no_parts() -> None:
    layer = weight_norm(nn.Linear(2, 3))
    assert own_children(layer) == []
    activation = nn.ReLU()
    inner = nn.Sequential(activation, layer)
    network = nn.Sequential(layer, inner)
    assert inner_modules(network) == [layer, activation]
    assert own_children(network) == [layer, inner]


def test_a_module_that_is_only_called_parametrizations_is_a_part() -> None:
    network = nn.ModuleDict({"parametrizations": nn.ReLU()})
    assert own_children(network) == [network["parametrizations"]]
    assert sorted(modules_by_name(network)) == ["", "parametrizations"]


def test_paths_are_those_of_the_network_without_parametrizations() -> None:
    plain, quantized = ConvNet(), Quantized(ConvNet(), skip=[]).build()
    assert list(modules_by_name(quantized)) == list(modules_by_name(plain))
    assert list(modules_by_name(weight_norm(nn.Linear(2, 3)))) == [""]
    assert find_modules(quantized, ["4"])["4"] is quantized.get_submodule("4")


def test_a_quantized_student_is_ranked_like_one_with_the_same_weights() -> None:
    """Also a classifier without a bias, which has no parameter of its own then."""
    torch.manual_seed(0)
    network = ConvNet(channels=4)
    network[10] = nn.Linear(32, 10, bias=False)
    for scheme in ("uniform", "points"):
        student = Quantized(copy.deepcopy(network), bits=2, skip=[], scheme=scheme).build()
        plain = Quantized().export(student)
        batch = (torch.randn(16, 1, 8, 8), torch.arange(16) % 10)
        candidates = {
            "quantized": lambda student=student: SingleInput(copy.deepcopy(student)),
            "plain": lambda plain=plain: SingleInput(copy.deepcopy(plain)),
        }
        found = {
            each.name: each for each in rank_students(SingleInput(ConvNet()), candidates, batch)
        }
        assert found["quantized"].score == found["plain"].score
        assert found["quantized"].semantic > 0
