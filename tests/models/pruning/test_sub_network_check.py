"""Sub-networks are refused where pruning is, and nowhere else."""

from __future__ import annotations

import copy
from importlib import import_module
from typing import Any

import pytest
import torch

from kdlight.models import prune_layers
from kdlight.models.pruning.sub_network_check import (
    _copy_on_the_same_weights,
    check_sub_network,
)
from tests.models.tiny_models import CONFIGS, DEPTH, RESCALED, SIZES, tiny

# untyped: its signatures are narrower than what it takes
transformers: Any = import_module("transformers")

OTHERS = {
    "by place": lambda: transformers.GPT2Config(
        vocab_size=31, n_embd=16, n_layer=DEPTH, n_head=2, scale_attn_by_inverse_layer_idx=True
    ),
    "experts": lambda: transformers.Qwen2MoeConfig(
        **SIZES, num_experts=DEPTH, moe_intermediate_size=8, shared_expert_intermediate_size=8,
        mlp_only_layers=[1],
    ),
    "a window": lambda: transformers.Qwen2Config(
        **SIZES, use_sliding_window=True, sliding_window=4, max_window_layers=2
    ),
    "no attention": lambda: transformers.MambaConfig(
        vocab_size=31, hidden_size=16, num_hidden_layers=DEPTH, state_size=4
    ),
}  # fmt: skip


def verdict(check: Any, model: Any, layers: list[int]) -> str | None:
    try:
        check(model, layers)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", [*CONFIGS, *RESCALED, *OTHERS])
def test_the_verdict_is_that_of_pruning(name: str) -> None:
    if name in OTHERS:
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(OTHERS[name]()).eval()
    else:
        model = tiny(name)
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    found = [verdict(check_sub_network, model, each) for each in ([0, 1], [0, 3], [2], [1, 2, 3])]
    expected = [verdict(prune_layers, model, each) for each in ([0, 1], [0, 3], [2], [1, 2, 3])]
    assert found == expected
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    if name in ("by place", "experts"):
        assert any(found)


def test_no_weight_is_copied() -> None:
    model = tiny("llama")
    copied: Any = _copy_on_the_same_weights(model, "model.layers", [0, 3])
    ours = {p.untyped_storage().data_ptr() for p in model.parameters()}
    assert {p.untyped_storage().data_ptr() for p in copied.parameters()} <= ours


class Elsewhere(transformers.LlamaForCausalLM):
    """A model that runs its layers from a list of its own."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.own = list(self.model.layers)

    def forward(self, input_ids: Any, **options: Any) -> Any:
        self.model.layers = torch.nn.ModuleList(self.own)
        return super().forward(input_ids, **options)


def test_a_model_with_layers_in_another_place_is_refused() -> None:
    model = Elsewhere(CONFIGS["llama"]())
    assert prune_layers(tiny("llama"), [0, 3]) is not None
    with pytest.raises(ValueError, match="does not run its layers|cannot be pruned"):
        check_sub_network(model, [0, 3])
