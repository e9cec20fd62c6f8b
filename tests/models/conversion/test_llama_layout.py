"""What a converted model cannot express is refused by name."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from kdlight.models import HybridMamba
from kdlight.models.conversion.llama_layout import bamba_names, check_layout
from tests.models.tiny_models import CONFIGS, RESCALED, SIZES, tiny

# untyped: its signatures are narrower than what it takes
transformers: Any = import_module("transformers")


def made(config: Any) -> Any:
    return transformers.AutoModelForCausalLM.from_config(config).eval()


REFUSED = {
    "gpt2": (CONFIGS["gpt2"], "weights are not those of Llama: it has 'transformer.wte.weight'"),
    "qwen3": (CONFIGS["qwen3"], "it has 'model.layers.0.self_attn.q_norm.weight'"),
    "qwen2": (
        lambda: transformers.Qwen2Config(**SIZES),
        "it has 'model.layers.0.self_attn.q_proj.bias'",
    ),
    "biases": (
        lambda: transformers.LlamaConfig(**SIZES, mlp_bias=True),
        "it has 'model.layers.0.mlp.gate_proj.bias'",
    ),
    "experts": (
        lambda: transformers.MixtralConfig(**SIZES, num_local_experts=2),
        "it has 'model.layers.0.mlp.gate.weight'",
    ),
    "window": (
        lambda: transformers.MistralConfig(**SIZES, sliding_window=4),
        "attention is limited .sliding_window=4",
    ),
    "activation": (
        lambda: transformers.LlamaConfig(**SIZES, hidden_act="gelu"),
        "hidden_act='gelu', but mixers and kernels use 'silu'",
    ),
    "wide_heads": (
        lambda: transformers.LlamaConfig(**SIZES, head_dim=12),
        "its 2 heads have 24 channels together, .* multiple of hidden_size=16",
    ),
    "scaled": (RESCALED["granite"], "the layers that are kept compute something else"),
    "interleaved": (RESCALED["cohere"], "it lacks 'model.layers.0.post_attention_layernorm"),
    "gemma": (
        lambda: transformers.GemmaConfig(**SIZES, head_dim=8, hidden_act="silu"),
        "the layers that are kept compute something else",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_bamba_cannot_express_is_refused(name: str) -> None:
    config, message = REFUSED[name]
    with pytest.raises(ValueError, match=f"cannot be converted by HybridMamba: .*{message}"):
        HybridMamba([0, 2]).build(made(config()))


def test_quantized_weights_are_refused() -> None:
    model = tiny("llama")
    model.model.norm.weight.requires_grad_(False)
    model.model.norm.weight.data = model.model.norm.weight.data.char()
    with pytest.raises(ValueError, match="its weights are quantized"):
        check_layout(model)


def test_a_mistral_without_a_window_is_a_llama() -> None:
    check_layout(made(transformers.MistralConfig(**SIZES, sliding_window=None)))


def test_every_weight_of_llama_has_a_name_in_bamba() -> None:
    names = bamba_names(SIZES["num_hidden_layers"])
    assert set(names) == set(tiny("llama").state_dict())
    student = HybridMamba(SIZES["num_hidden_layers"]).build(tiny("llama"))
    assert set(names.values()) == set(student.model.state_dict())
