"""What differs first between two models."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.models.same_architecture import first_difference
from tests.models.tiny_models import SIZES, tiny, transformers


def llama(**sizes: Any) -> Any:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**SIZES, **sizes}))


def test_models_of_one_architecture_may_have_other_weights_and_tokens() -> None:
    other = llama(eos_token_id=5, attention_dropout=0.5, initializer_range=0.3).bfloat16()
    other.config.use_cache = False
    assert first_difference(llama(), other) is None


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"hidden_size": 8}, "hidden_size: 16 and 8"),
        ({"num_hidden_layers": 3}, "num_hidden_layers: 4 and 3"),
        ({"rms_norm_eps": 1e-3}, "rms_norm_eps: 1e-06 and 0.001"),
        ({"vocab_size": 33}, "vocab_size: 31 and 33"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings: False and True"),
    ],
)
def test_the_entry_of_the_config_is_named(sizes: dict[str, Any], expected: str) -> None:
    assert first_difference(llama(), llama(**sizes)) == expected


def test_the_class_and_the_weight_are_named() -> None:
    difference = first_difference(llama(), tiny("qwen3"))
    assert difference == "class: LlamaForCausalLM and Qwen3ForCausalLM"
    other = llama()
    other.resize_token_embeddings(29)
    other.config.vocab_size = 31
    difference = first_difference(llama(), other)
    assert difference == "model.embed_tokens.weight: (31, 16) and (29, 16)"
