"""Paths lead to the modules that are meant, in wrapped networks too, or the error names others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from transformers import LlamaConfig, LlamaForCausalLM

from kdlight import CausalLM
from kdlight.features.paths import FeaturePath, find_module, find_modules, modules_by_name
from kdlight.objectives import HiddenStates


def llama() -> LlamaForCausalLM:
    sizes: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "vocab_size": 11}
    return LlamaForCausalLM(
        LlamaConfig(**sizes, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1)
    )


@pytest.mark.parametrize(
    ("path", "parsed"),
    [
        ("", ("", "output", "")),
        ("a.b", ("a.b", "output", "")),
        ("a:output", ("a", "output", "")),
        ("a:output.1", ("a", "output", "1")),
        (":input", ("", "input", "")),
        ("a.0:input.hidden_states", ("a.0", "input", "hidden_states")),
        ("a:input.x.y", ("a", "input", "x.y")),
    ],
)
def test_paths_are_read(path: str, parsed: tuple[str, str, str]) -> None:
    assert FeaturePath.parse(path) == parsed


@pytest.mark.parametrize("path", ["a:", "a:inputs", "a:out.0", "a:b:input"])
def test_endings_that_mean_nothing_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="must end in ':input', ':output'"):
        FeaturePath.parse(path)


@pytest.mark.parametrize("path", [3, None, ["a"]])
def test_paths_are_strings(path: Any) -> None:
    with pytest.raises(TypeError, match="must be the name of a module"):
        FeaturePath.parse(path)


def test_leading_parts_may_be_left_out() -> None:
    model = llama()
    wrapped = CausalLM.wrap(model)
    for network in (model, wrapped):
        for path in ("model.layers.1.mlp", "layers.1.mlp", "1.mlp:input"):
            assert find_module(network, path) is model.model.layers[1].mlp
        assert find_module(network, "") is network
    assert find_module(model, "model") is model.model  # a whole name comes before the end of one


def test_modules_of_several_paths_are_those_of_each() -> None:
    model = llama()
    paths = ["layers.1", "model.layers.0.mlp:input", "", "lm_head:output"]
    assert find_modules(model, paths) == {path: find_module(model, path) for path in paths}
    assert find_modules(model, iter(paths)).keys() == set(paths)
    assert find_modules(model, []) == {}
    with pytest.raises(ValueError, match="called 'layers.7'"):
        find_modules(model, [*paths, "layers.7"])


def test_several_ends_are_refused_and_one_module_under_two_names_is_not() -> None:
    model = llama()
    with pytest.raises(ValueError, match="2 modules of LlamaForCausalLM have .* end in 'mlp'") as e:
        find_module(model, "mlp")
    assert "'model.layers.0.mlp', 'model.layers.1.mlp'; write out one" in str(e.value)
    shared = nn.Linear(2, 2)
    twice = nn.ModuleDict({"a": nn.ModuleDict({"x": shared}), "b": nn.ModuleDict({"x": shared})})
    assert find_module(twice, "x") is find_module(twice, "a.x") is find_module(twice, "b.x")


@pytest.mark.parametrize(
    ("path", "similar"),
    [
        ("model.layer.0", "'model.layers.0'"),
        ("layers.9", "'model.layers.0'"),
        ("model.layers.0.mpl", "'model.layers.0.mlp'"),
        ("self_atn", "'model.layers.0.self_attn'"),
        ("head", "'lm_head'"),
        ("Model.Layers.0", "'model.layers.0'"),
    ],
)
def test_unknown_names_list_similar_ones(path: str, similar: str) -> None:
    with pytest.raises(ValueError, match=f"no module of LlamaForCausalLM is called '{path}'") as e:
        find_module(llama(), path)
    assert similar in str(e.value)
    assert "doctor --paths" in str(e.value)


def test_wrappers_of_checkpointing_change_no_name() -> None:
    network = nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.ReLU())
    inner = network[0]
    network[0] = checkpoint_wrapper(inner)
    assert set(modules_by_name(network)) == {"", "0", "0.0", "1"}
    assert find_module(network, "0") is network[0]
    assert find_module(network, "0.0") is inner[0]  # type: ignore[index]


def test_adapters_of_peft_change_no_name_that_ends_alike() -> None:
    peft = pytest.importorskip("peft")
    model = llama()
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj"]))
    layer = adapted.base_model.model.model.layers[1]
    assert find_module(adapted, "model.layers.1") is layer
    assert find_module(adapted, "layers.1.self_attn.q_proj") is layer.self_attn.q_proj


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch of itself
def test_compiled_networks_are_refused() -> None:
    network = nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.ReLU())
    inside: Any = nn.Sequential(torch.compile(network[0]), nn.ReLU())  # type: ignore[arg-type]
    for compiled in (torch.compile(network), inside):
        with pytest.raises(ValueError, match="'1' cannot be captured: .* is compiled"):
            find_module(compiled, "1")  # type: ignore[arg-type]
    in_place = nn.Sequential(nn.Linear(2, 2))
    in_place.compile()
    with pytest.raises(ValueError, match="Sequential is compiled"):
        find_module(in_place, "0")


def test_a_lightning_module_is_a_network_unless_lightning_compiled_it() -> None:
    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(2, 2)

    module = Module()
    assert find_module(module, "net") is module.net
    module._compiler_ctx = {"compiler": "dynamo"}
    with pytest.raises(ValueError, match="Module is compiled"):
        find_module(module, "net")


def test_networks_of_an_objective_are_no_features() -> None:
    """A LightningModule with the mixin holds its objective, whose projectors have numbers too."""
    module = nn.Module()
    module.net = nn.Sequential(nn.Linear(2, 3))
    module.objective = HiddenStates({"0": "0"}, projector="linear")
    module.objective.bind(nn.Sequential(nn.Linear(2, 3)), nn.Sequential(nn.Linear(2, 5)))
    assert find_module(module, "0") is module.net[0]
    assert not any("objective" in name for name in modules_by_name(module))
