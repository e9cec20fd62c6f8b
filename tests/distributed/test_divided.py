"""Features that tensor parallelism divides are refused; what is whole again is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh

from kdlight.distributed.divided import check_undivided, is_divided
from kdlight.distributed.sharding import shard
from tests.support.feature_fit import fit_on_ranks, llama, one_process
from tests.support.gloo import run_on_ranks
from tests.support.split_fit import Options, Result, largest_difference

WHOLE = ("", "model", "model.layers.1", "model.layers.0.self_attn", "model.layers.0.mlp", "lm_head")
DIVIDED = ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.act_fn")


def _divided(rank: int) -> None:
    mesh = init_device_mesh("cpu", (1, 2), mesh_dim_names=("data_parallel", "tensor_parallel"))
    model = llama()
    assert not any(map(is_divided, model.modules()))
    shard(model, mesh)
    layer = model.get_submodule("model.layers.0")
    assert is_divided(layer.get_submodule("mlp.down_proj"))
    assert not is_divided(layer.get_submodule("input_layernorm"))
    for path in WHOLE:
        check_undivided(model, {path: model.get_submodule(path)})
    for path in DIVIDED:
        with pytest.raises(ValueError, match=f"'{path}' is inside of .*Llama"):
            check_undivided(model, {path: model.get_submodule(path)})


@pytest.mark.slow
def test_what_is_divided_is_told_from_what_is_whole(tmp_path: Path) -> None:
    run_on_ranks(_divided, tmp_path)


def test_nothing_of_a_network_on_one_rank_is_divided() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    check_undivided(network, {"1": network[1]})
    assert not is_divided(network[0])
    assert torch.equal(network[1](torch.zeros(1)), torch.zeros(1))


UNDIVIDED = ("layers and logits", "batch", "layers", "first layer", "norm")
TP: Options = {"strategy": "fsdp2", "tensor_parallel": 2, "batch_size": 8}


@pytest.fixture(scope="module")
def on_ranks(tmp_path_factory: pytest.TempPathFactory) -> Result:
    names = (*UNDIVIDED, "relation and logits", "inside and logits")
    cases = {name: {"objective": name, **TP} for name in names}
    return fit_on_ranks(cases, tmp_path_factory.mktemp("ranks"))[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", UNDIVIDED)
def test_features_of_whole_layers_are_those_of_one_process(name: str, on_ranks: Result) -> None:
    assert largest_difference(one_process(name), on_ranks[name]) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("name", ["relation and logits", "inside and logits"])
def test_features_of_divided_layers_are_refused(name: str, on_ranks: Result) -> None:
    assert "q_proj' is inside of LlamaAttention" in on_ranks[name]["error"]
