"""Tiny decoders like Llama, with weights large enough that differences show."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch

# untyped: its signatures are narrower than what it takes
transformers: Any = import_module("transformers")

SIZES = {
    "vocab_size": 31,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "eos_token_id": 2,
    "bos_token_id": 1,
    "pad_token_id": 2,
}

FAMILIES = {
    "llama": lambda: transformers.LlamaConfig(
        **SIZES, tie_word_embeddings=True, attention_bias=True, mlp_bias=True
    ),
    "mistral": lambda: transformers.MistralConfig(**SIZES, sliding_window=8),
    "qwen2": lambda: transformers.Qwen2Config(**SIZES),  # biases of q, k, v, and no head_dim
    "qwen3": lambda: transformers.Qwen3Config(**SIZES, head_dim=8),  # norms of heads
    "smollm3": lambda: transformers.SmolLM3Config(**SIZES),
    "granite": lambda: transformers.GraniteConfig(**SIZES, logits_scaling=8.0),
}

# embeddings are scaled by the root of the number of hidden channels
SCALED = {
    "gemma": lambda: transformers.GemmaConfig(**SIZES, head_dim=8),
    "gemma2": lambda: transformers.Gemma2Config(**SIZES, head_dim=8),
    "gemma3": lambda: transformers.Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=8),
}

# layer norms subtract a mean over the hidden channels
CENTERED = {"cohere": lambda: transformers.CohereConfig(**SIZES)}

OTHERS = {
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=31, n_embd=16, n_layer=3, n_head=2, bos_token_id=1, eos_token_id=2
    ),
    "mixtral": lambda: transformers.MixtralConfig(**SIZES, num_local_experts=2),
    "mamba": lambda: transformers.MambaConfig(
        vocab_size=31, hidden_size=16, num_hidden_layers=3, state_size=4
    ),
    "phi3": lambda: transformers.Phi3Config(**SIZES),
    "olmo": lambda: transformers.OlmoConfig(**SIZES),  # norms without weights
    "olmo2": lambda: transformers.Olmo2Config(**SIZES),  # a norm of all heads together
}


def decoder(name: str, *, seed: int = 0) -> Any:
    config = {**FAMILIES, **SCALED, **CENTERED, **OTHERS}[name]()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model


def batch(rows: int = 3, length: int = 7, *, seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"input_ids": torch.randint(3, 31, (rows, length), generator=generator)}


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**batch()).logits
