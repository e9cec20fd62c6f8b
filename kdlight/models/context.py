"""The number of tokens that a network can read."""

from __future__ import annotations

from typing import Any


def context_length(network: Any) -> int | None:
    """Return the maximal length of a sequence; None if the network has no limit or tells none.

    Args:
        network: a network with ``context_length``, such as a `kdlight.CausalLM`, or a Hugging Face
            model.

    Example:
        >>> from transformers import AutoModelForCausalLM, GPT2Config
        >>> config = GPT2Config(vocab_size=31, n_embd=8, n_layer=1, n_head=1, n_positions=16)
        >>> context_length(AutoModelForCausalLM.from_config(config))
        16
    """
    if hasattr(network, "context_length"):
        return network.context_length
    config: Any = getattr(network, "config", None)
    if hasattr(config, "get_text_config"):
        config = config.get_text_config()
    length = getattr(config, "max_position_embeddings", None)
    return length if length is not None and length > 0 else None  # XLNet has -1
