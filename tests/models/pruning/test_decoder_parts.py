"""Decoders like Llama are recognized by their structure; all others are refused by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdlight.models.pruning.decoder_parts import decoder_parts
from tests.models.pruning.width_models import CENTERED, FAMILIES, OTHERS, SCALED, decoder


@pytest.mark.parametrize("name", [*FAMILIES, *SCALED, *CENTERED])
def test_every_axis_of_every_weight_is_known(name: str) -> None:
    model = decoder(name)
    parts = decoder_parts(model)
    config = model.config
    assert parts.heads == config.num_attention_heads
    assert parts.key_value_heads == config.num_key_value_heads
    assert (parts.hidden, parts.intermediate) == (config.hidden_size, config.intermediate_size)
    assert parts.head_dim == model.model.layers[0].self_attn.head_dim
    weights = model.state_dict()
    assert parts.axes.keys() == weights.keys()
    sizes = {
        "hidden": parts.hidden,
        "queries": parts.heads * parts.head_dim,
        "keys": parts.key_value_heads * parts.head_dim,
        "neurons": parts.intermediate,
    }
    seen = set()
    for key, axes in parts.axes.items():
        for size, axis in zip(weights[key].shape, axes, strict=True):
            if axis is not None:
                kind, *layer = axis.split()
                assert size == sizes[kind], key
                assert not layer or f".layers.{layer[0]}." in key
                seen.add(kind)
    assert seen == set(sizes)


def test_norms_of_heads_are_no_norms_of_hidden_states() -> None:
    parts = decoder_parts(decoder("qwen3"))
    assert parts.axes["model.layers.0.self_attn.q_norm.weight"] == (None,)
    assert parts.axes["model.layers.0.input_layernorm.weight"] == ("hidden",)
    assert len(parts.norms) == 2 * 3 + 1
    assert not any("q_norm" in each for each in parts.norms)
    assert len(decoder_parts(decoder("gemma2")).norms) == 4 * 3 + 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gpt2", r"transformer\.h\.0 has 0 modules with q_proj"),
        ("mamba", r"backbone\.layers\.0 has 0 modules with q_proj"),
        ("phi3", r"model\.layers\.0 has 0 modules with q_proj"),
        ("mixtral", r"model\.layers\.0 has 0 modules with gate_proj"),
        ("olmo", "norms of hidden states have no weights"),
        ("olmo2", r"q_norm\.weight \(16,\) is no part"),
    ],
)
def test_other_architectures_are_refused_by_name(name: str, reason: str) -> None:
    assert name in OTHERS
    model = decoder(name)
    with pytest.raises(ValueError, match=rf"{type(model).__name__} cannot be pruned .*{reason}"):
        decoder_parts(model)


def test_a_weight_of_an_unknown_place_is_refused() -> None:
    model = decoder("llama")
    model.model.layers[1].mlp.gate = nn.Parameter(torch.ones(24))
    with pytest.raises(ValueError, match=r"layers\.1\.mlp\.gate \(24,\) is no part"):
        decoder_parts(model)


def test_layers_of_several_widths_are_refused() -> None:
    model = decoder("llama")
    model.model.layers[1].mlp.gate_proj = nn.Linear(16, 20)
    with pytest.raises(ValueError, match=r"has shape \(20, 16\), where .* have 24 neurons 1"):
        decoder_parts(model)


def test_quantized_and_adapted_layers_are_refused() -> None:
    model = decoder("llama")
    wrapped = nn.Sequential(model.model.layers[0].self_attn.q_proj)
    model.model.layers[0].self_attn.q_proj = wrapped
    with pytest.raises(ValueError, match="has 0 modules with q_proj"):
        decoder_parts(model)
