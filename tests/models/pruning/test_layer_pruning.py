"""A model with fewer layers computes what these layers compute in the teacher."""

from __future__ import annotations

import copy
from importlib import import_module
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kdlight.models import (
    choose_layers,
    prune_layers,
)
from tests.models.tiny_models import CONFIGS, DEPTH, SIZES, tiny, tokens

# untyped: its signatures are narrower than what it takes
transformers: Any = import_module("transformers")


def test_all_layers_give_the_same_logits(teacher):
    ids = tokens()
    student = prune_layers(teacher, DEPTH)
    assert student.training
    assert torch.equal(student.eval()(input_ids=ids).logits, teacher(input_ids=ids).logits)
    assert student.config.to_dict() == teacher.config.to_dict()


@pytest.mark.parametrize("layers", [[0, 3], [1, 2], [2], [0, 1, 3]])
def test_a_pruned_model_runs_the_chosen_layers(layers):
    """Compared with a teacher whose other layers are removed by hand."""
    for name in CONFIGS:
        teacher = tiny(name)
        by_hand = copy.deepcopy(teacher)
        body = by_hand.get_decoder()
        path = "h" if name == "gpt2" else "layers"
        setattr(body, path, nn.ModuleList(getattr(body, path)[index] for index in layers))
        by_hand.config.num_hidden_layers = len(layers)
        if name == "qwen3":
            by_hand.config.layer_types = [by_hand.config.layer_types[index] for index in layers]
        ids = tokens()
        expected = by_hand(input_ids=ids, use_cache=False).logits
        student = prune_layers(teacher, layers).eval()
        assert torch.equal(student(input_ids=ids).logits, expected), name


def test_lists_with_one_entry_per_layer_are_pruned_too():
    student = prune_layers(tiny("qwen3"), [0, 1, 2])
    assert student.config.layer_types == ["full_attention", "sliding_attention", "full_attention"]


def test_nothing_is_shared_with_the_teacher(teacher):
    before = copy.deepcopy(teacher.state_dict())
    student = prune_layers(teacher, 2)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    student.config.eos_token_id = 7
    student.generation_config.eos_token_id = 7
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert teacher.config.eos_token_id == 2
    assert teacher.generation_config.eos_token_id == 2


def test_pruning_draws_no_random_numbers(llama):
    before = torch.get_rng_state()
    prune_layers(llama, 2)
    assert torch.equal(before, torch.get_rng_state())


@given(st.integers(1, 100), st.data())
def test_a_count_is_spread_evenly(depth, data):
    count = data.draw(st.integers(1, depth))
    layers = choose_layers(count, depth=depth)
    assert len(layers) == count
    assert layers == choose_layers(layers, depth=depth)
    gaps = {b - a for a, b in zip(layers, layers[1:], strict=False)}
    assert not gaps or max(gaps) - min(gaps) <= 1
    assert count == 1 or (layers[0], layers[-1]) == (0, depth - 1)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (0, "1 to 4"),
        (5, "1 to 4"),
        ([], "at least one of the layers"),
        ([0, 4], r"\[4\] are outside"),
        ([-1], "outside"),
        ([1, 1], "increasing order"),
        ([2, 1], "increasing order"),
    ],
)
def test_layers_that_are_not_there_are_refused(llama, layers, message):
    with pytest.raises(ValueError, match=message):
        prune_layers(llama, layers)


@pytest.mark.parametrize("layers", [2.0, True, None, "12", [0.0, 1.0], [True], {0, 1}], ids=str)
def test_layers_that_are_no_integers_are_refused(llama, layers):
    with pytest.raises(TypeError, match="layers must be a number of layers or the indices"):
        prune_layers(llama, layers)


def test_layers_of_different_kinds_are_not_mixed_up():
    config = transformers.Qwen2MoeConfig(
        **SIZES,
        num_experts=DEPTH,  # a list of experts is as long as that of layers
        moe_intermediate_size=8,
        shared_expert_intermediate_size=8,
        mlp_only_layers=[1],
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    assert prune_layers(model, [0, 1]).config.num_hidden_layers == 2
    with pytest.raises(ValueError, match="not interchangeable"):
        prune_layers(model, [0, 2])
