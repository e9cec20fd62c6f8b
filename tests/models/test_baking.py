"""Parametrized weights are written as the plain numbers that evaluation uses."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import register_parametrization

from kdlight.export import export_student
from kdlight.models import CausalLM, TransformersModel
from kdlight.models.baking import bake, bake_weights, has_parametrizations
from kdlight.quantization import LearnedPoints, UniformQuantization
from tests.models.tiny_models import tiny, tokens, transformers


def quantize(layer: nn.Module) -> nn.Module:
    return register_parametrization(layer, "weight", UniformQuantization(bits=2, bucket=8))


def points(layer: Any) -> nn.Module:
    return register_parametrization(layer, "weight", LearnedPoints.of(layer.weight, bits=2))


def twice(layer: nn.Module) -> nn.Module:
    return quantize(parametrizations.weight_norm(layer))


KINDS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "uniform": quantize,
    "points": points,
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "twice": twice,
}


def network(kind: str) -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(8, 8), nn.Dropout(), nn.Sequential(nn.Linear(8, 8)))
    KINDS[kind](made[0])
    KINDS[kind](made[2][0])  # type: ignore[index]
    with torch.no_grad():  # as training does
        for parameter in made.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_with_plain_weights_computes_the_same(kind: str) -> None:
    given, x = network(kind), torch.randn(3, 8)
    before = copy.deepcopy(given.state_dict())
    plain = bake(given)
    assert not plain.training
    assert given.training
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())
    assert [type(each) for each in plain.modules()] == [
        type(each)
        for each in nn.Sequential(
            nn.Linear(1, 1), nn.Dropout(), nn.Sequential(nn.Linear(1, 1))
        ).modules()
    ]
    torch.testing.assert_close(plain(x), given.eval()(x), rtol=0, atol=0)
    assert all(parameter.requires_grad for parameter in plain.parameters())
    names = {"0.weight", "0.bias", "2.0.weight", "2.0.bias"}
    assert set(plain.state_dict()) == names
    weights = bake_weights(given, given.state_dict())
    assert set(weights) == names
    for name, value in plain.state_dict().items():
        assert torch.equal(weights[name], value), name


def test_a_network_without_parametrizations_is_copied() -> None:
    given = nn.Sequential(nn.Linear(2, 3))
    assert not has_parametrizations(given)
    plain = bake(given)
    assert plain[0] is not given[0]  # type: ignore[index]
    assert torch.equal(plain[0].weight, given[0].weight)  # type: ignore[index]


def test_weights_from_elsewhere_take_the_place_of_ones_own() -> None:
    given, other = network("points"), network("points")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    expected = bake(other).state_dict()
    found = bake_weights(given, other.state_dict())
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_module_that_is_used_twice_is_written_under_both_names() -> None:
    layer = quantize(nn.Linear(8, 8))
    given = nn.Sequential(layer, nn.ReLU(), layer)
    assert set(bake_weights(given, given.state_dict())) == {
        "0.weight",
        "0.bias",
        "2.weight",
        "2.bias",
    }
    x = torch.randn(2, 8)
    assert torch.equal(bake(given)(x), given(x))


def test_a_parametrized_buffer_stays_a_buffer_and_frozen_weights_stay_frozen() -> None:
    given = nn.BatchNorm1d(3)
    register_parametrization(given, "running_mean", nn.Softplus())
    layer = quantize(nn.Linear(8, 8).requires_grad_(False))
    plain = bake(nn.Sequential(given, layer))
    running_mean: Any = given.running_mean
    assert torch.equal(plain.get_buffer("0.running_mean"), running_mean)
    assert not plain.get_parameter("1.weight").requires_grad


@pytest.mark.parametrize("both", [True, False])
def test_tied_weights_are_refused(both: bool) -> None:
    first, second = nn.Linear(8, 8), nn.Linear(8, 8)
    second.weight = first.weight
    given = nn.Sequential(quantize(first), quantize(second) if both else second)
    for attempt in (lambda: bake(given), lambda: bake_weights(given, given.state_dict())):
        with pytest.raises(ValueError, match=r"tied to another one \(0.parametrizations.weight"):
            attempt()


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["CausalLM", "TransformersModel", "plain model"])
def test_a_folder_holds_plain_weights(kind: str, how: str, tmp_path: Path) -> None:
    model, ids = tiny("llama"), tokens()
    for layer in model.model.layers:
        KINDS[kind](layer.mlp.down_proj)
        KINDS[kind](layer.self_attn.q_proj)
    wrap: Any = {"CausalLM": CausalLM.wrap, "TransformersModel": TransformersModel.wrap}
    export_student(wrap.get(how, lambda model: model)(model), tmp_path)
    saved = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert not has_parametrizations(saved)
    torch.testing.assert_close(logits(saved, ids), logits(model, ids), rtol=0, atol=0)


@pytest.mark.parametrize("how", ["CausalLM", "plain model"])
def test_gathered_weights_are_baked(how: str, tmp_path: Path) -> None:
    """As with FSDP2: tied weights are given once, and the module's own weights are not read."""
    model, other, ids = tiny("llama"), tiny("llama"), tokens()
    for each in (model, other):
        for layer in each.model.layers:
            points(layer.mlp.down_proj)
    student: Any = CausalLM.wrap(model) if how == "CausalLM" else model
    source: Any = CausalLM.wrap(other) if how == "CausalLM" else other
    gathered = {name: value for name, value in source.state_dict().items() if "lm_head" not in name}
    assert len(gathered) == len(source.state_dict()) - 1
    export_student(student, tmp_path, state_dict=gathered)
    saved = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(logits(saved, ids), logits(other, ids), rtol=0, atol=0)
