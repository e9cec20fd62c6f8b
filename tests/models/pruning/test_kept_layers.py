"""The config and the names of weights of kept layers."""

from __future__ import annotations

import torch

from kdlight.models.pruning.kept_layers import prune_config, prune_names
from tests.models.tiny_models import tiny


def test_names_are_those_of_a_pruned_model() -> None:
    model = tiny("llama")
    kept = prune_names(model.state_dict(), "model.layers", [1, 3])
    assert "model.layers.2.mlp.up_proj.weight" not in kept
    assert torch.equal(
        kept["model.layers.1.mlp.up_proj.weight"], model.model.layers[3].mlp.up_proj.weight
    )
    others = [name for name in kept if not name.startswith("model.layers.")]
    assert others == [name for name in model.state_dict() if ".layers." not in name]


def test_the_given_config_is_not_changed() -> None:
    config = tiny("qwen3").config
    assert prune_config(config, [1]).layer_types == ["sliding_attention"]
    assert len(config.layer_types) == config.num_hidden_layers == 4
