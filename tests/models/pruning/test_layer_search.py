"""Sub-networks are ranked by a score, and layers are removed one by one."""

from __future__ import annotations

from math import inf, isfinite, nan
from typing import Any

import pytest
import torch

from kdlight.models import prune_layers, rank_layers, remove_layers
from tests.models.tiny_models import DEPTH, SIZES, tiny, tokens, transformers

IDS = tokens()


def logit(model: Any) -> float:
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits.square().sum().item()


def test_a_score_is_that_of_the_pruned_model() -> None:
    model = tiny("llama")
    lists: list[Any] = [1, 2, [0, 1, 3], DEPTH]
    ranked = rank_layers(model, lambda: logit(model), lists)
    assert [each.score for each in ranked] == sorted(each.score for each in ranked)
    assert sorted(map(len, (each.layers for each in ranked))) == [1, 2, 3, 4]
    for each in ranked:
        pruned = prune_layers(model, each.layers).eval()
        assert logit(pruned) == each.score
        assert sum(p.numel() for p in pruned.parameters()) == each.parameters
    assert len(rank_layers(model, lambda: 0.0)) == DEPTH
    smallest = min(each.parameters for each in ranked)
    fitting = rank_layers(model, lambda: logit(model), lists, max_parameters=smallest)
    assert [each.layers for each in fitting] == [[0]]


def test_of_equal_scores_the_smaller_one_is_first() -> None:
    ranked = rank_layers(tiny("llama"), lambda: 1.0, [3, 1, 2])
    assert [len(each.layers) for each in ranked] == [1, 2, 3]


def test_a_budget_that_nothing_fits() -> None:
    with pytest.raises(ValueError, match=r"max_parameters is 5, but the smallest candidate has"):
        rank_layers(tiny("llama"), lambda: 0.0, [1, 2], max_parameters=5)


def test_layers_that_matter_stay() -> None:
    """Layers 1 and 3 do nothing, so that removing them changes no logits."""
    model = tiny("llama")
    with torch.no_grad():
        for index in (1, 3):
            model.model.layers[index].mlp.down_proj.weight.zero_()
            model.model.layers[index].self_attn.o_proj.weight.zero_()
    whole = model(input_ids=IDS).logits.detach()

    def distance() -> float:
        with torch.no_grad():
            return (model(input_ids=IDS, use_cache=False).logits - whole).square().sum().item()

    path = remove_layers(model, distance, min_layers=2)
    assert [each.layers for each in path][-1] == [0, 2]
    assert [each.score for each in path] == [0.0, 0.0, 0.0]
    assert path[0].parameters > path[1].parameters > path[2].parameters
    assert len(model.model.layers) == DEPTH
    with pytest.raises(ValueError, match="min_layers must be .*got 5"):
        remove_layers(model, distance, min_layers=5)


def test_layers_that_cannot_be_left_out_stay() -> None:
    config = transformers.Qwen2MoeConfig(
        **SIZES, num_experts=5, moe_intermediate_size=8, shared_expert_intermediate_size=8,
        mlp_only_layers=[1],
    )  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    path = remove_layers(model, lambda: 1.0, min_layers=2)
    assert path[-1].layers == [0, 1]
    with pytest.raises(ValueError, match="not interchangeable"):
        rank_layers(model, lambda: 1.0, [[1]])


def test_a_score_that_is_no_number_is_the_last() -> None:
    model = tiny("llama")

    def score() -> float:
        depth = int(model.config.num_hidden_layers or 0)
        return {1: nan, 2: 0.5, 3: -inf}.get(depth, 1 / depth)

    assert [len(each.layers) for each in rank_layers(model, score)][:2] == [4, 2]
    path = remove_layers(model, score, min_layers=2)
    assert [len(each.layers) for each in path] == [4, 3, 2]
    keeps_first = lambda: nan if model.model.layers[0].self_attn.layer_idx else 1.0  # noqa: E731
    assert isfinite(remove_layers(model, keeps_first, min_layers=3)[-1].score)
