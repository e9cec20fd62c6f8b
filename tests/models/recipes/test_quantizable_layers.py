"""Which layers of a network are quantized."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from kdlight import LoRACausalLM
from kdlight.models.digits import ConvNet
from kdlight.models.recipes.quantizable_layers import layer_types, quantizable_layers
from tests.models.tiny_models import tiny
from tests.support import toy

IN_A_LAYER = [f"self_attn.{each}_proj" for each in "qkvo"] + [
    f"mlp.{each}_proj" for each in ("gate", "up", "down")
]


def layers(network: nn.Module, skip: Any = ("first", "last"), **options: Any) -> list[str]:
    return list(quantizable_layers(network, layer_types(**options), skip))


def test_layers_of_a_language_model_with_tied_embeddings() -> None:
    expected = [f"model.model.layers.{i}.{each}" for i in (0, 1) for each in IN_A_LAYER]
    assert layers(toy.llama()) == expected


def test_the_layer_of_gpt2_and_its_embeddings_of_positions() -> None:
    kinds = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    inside = [f"transformer.h.{i}.{each}" for i in range(4) for each in kinds]
    assert layers(tiny("gpt2")) == ["transformer.wpe", *inside]


def test_convolutions_of_all_kinds() -> None:
    network = nn.Sequential(
        nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2), nn.ConvTranspose2d(2, 3, 1), nn.Conv3d(3, 1, 1)
    )
    assert layers(network, []) == ["0", "2", "3"]
    assert layers(ConvNet()) == ["4"]
    assert layers(ConvNet(), []) == ["0", "4", "10"]


def test_linear_layers_only() -> None:
    network = nn.Sequential(nn.Embedding(3, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    assert layers(network, ["first"], only_linear=True) == ["2"]


def test_a_path_skips_all_layers_in_it() -> None:
    kept = layers(
        toy.llama(), ["first", "last", "model.model.layers.0", "model.model.layers.1.mlp"]
    )
    assert kept == [f"model.model.layers.1.{each}" for each in IN_A_LAYER[:4]]
    network = nn.ModuleDict({"up": nn.Linear(2, 2), "up2": nn.Linear(2, 2)})
    assert layers(network, ["up"]) == ["up2"]


@pytest.mark.parametrize("path", ["model.model.layers.7", "layers.0", "model.model.norm", ""])
def test_a_path_that_leads_nowhere(path: str) -> None:
    words = rf"skip='{path}' leads to no layer of CausalLM.*these are: 'model.model.embed_tokens', "
    with pytest.raises(ValueError, match=words + ".* and 8 more"):
        layers(toy.llama(), [path])


def test_nothing_to_quantize() -> None:
    with pytest.raises(ValueError, match=r"has 2 layers of the types Linear, ConvNd, .* skips all"):
        layers(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="nothing to quantize: ReLU has 0 layers"):
        layers(nn.ReLU(), [])
    with pytest.raises(ValueError, match="skip='first' leads to no layer of ReLU.*are: none"):
        layers(nn.ReLU())


@pytest.mark.parametrize("skip", [[], ["first"], ["last"]])
def test_tied_embeddings(skip: list[str]) -> None:
    with pytest.raises(ValueError, match=r"is tied \(model.model.embed_tokens.weight, model.lm_he"):
        layers(toy.llama(), skip)


def test_a_module_that_is_used_twice_is_not_tied() -> None:
    shared = nn.Linear(2, 2)
    assert layers(nn.Sequential(shared, nn.ReLU(), shared), []) == ["0"]


def test_adapters() -> None:
    student = LoRACausalLM().build(toy.llama())
    for network in (student, student.model, nn.Sequential(student)):
        with pytest.raises(ValueError, match=r"has adapters \(LoRA\).*merge them first"):
            layers(network)


def test_weights_that_are_parametrized_already() -> None:
    network = nn.Sequential(nn.Linear(2, 2), parametrizations.weight_norm(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="has parametrized weights already"):
        layers(network, ["last"])


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
def test_weights_that_are_computed_or_packed() -> None:
    old = nn.utils.weight_norm(nn.Linear(2, 2))
    with pytest.raises(
        ValueError, match=r"weight of '0' \(Linear\) is no floating-point parameter"
    ):
        layers(nn.Sequential(old), [])
    packed = nn.Linear(2, 2)
    packed.weight = nn.Parameter(torch.zeros(4, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(ValueError, match="computed from others, or packed"):
        layers(nn.Sequential(packed), [])
    model = tiny("llama")
    model.hf_quantizer = object()
    with pytest.raises(ValueError, match="LlamaForCausalLM was quantized when it was loaded"):
        layers(model)
