"""The config of a hybrid of attention and Mamba-2 layers that equals a Llama where it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

COPIED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "initializer_range",
    "rms_norm_eps",
    "use_cache",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "max_position_embeddings",
    "attention_dropout",
    "tie_word_embeddings",
)
"""Settings that both architectures have."""

CONVOLUTION = 4
"""Tokens that the convolution before a state space layer sees, as published."""


def bamba_config(config: Any, attention_layers: Sequence[int], *, chunk_size: int) -> Any:
    """Return the config of transformers' Bamba for a model whose config is that of Llama.

    A mixer has a state space head for each attention head, as wide as that, with a state as wide as
    a key. Each head has keys and queries of its own (groups), also where attention heads share
    keys. Rotary embeddings turn all channels, as in Llama; Bamba's default is half of them.

    Args:
        config: the config of the model, see
            `kdlight.models.conversion.llama_layout.check_layout`.
        attention_layers: the layers that keep their attention.
        chunk_size: see `HybridMamba`.

    Raises:
        ImportError: If the installed transformers is older than 5.

    Example:
        >>> from transformers import LlamaConfig
        >>> config = LlamaConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=3)
        >>> bamba_config(config, [1], chunk_size=256).layers_block_type
        ['linear_attention', 'full_attention', 'linear_attention']
    """
    from transformers import BambaConfig

    if "rope_parameters" not in BambaConfig.__annotations__:
        raise ImportError("HybridMamba needs transformers 5 or newer: pip install -U transformers")
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    settings: dict[str, Any] = {name: getattr(config, name) for name in COPIED}
    settings |= {
        "head_dim": head_dim,
        "rope_parameters": {**config.rope_parameters, "partial_rotary_factor": 1.0},
        "attn_layer_indices": list(attention_layers),
        "mamba_n_heads": heads,
        "mamba_n_groups": heads,
        "mamba_d_head": head_dim,
        "mamba_d_state": head_dim,
        "mamba_expand": heads * head_dim // config.hidden_size,
        "mamba_d_conv": CONVOLUTION,
        "mamba_chunk_size": chunk_size,
        "attn_implementation": config._attn_implementation,
    }
    return BambaConfig(**settings)
