"""Where a model holds its layers."""

from __future__ import annotations

from typing import Any

from torch import nn


def layer_list(model: Any) -> str:
    """Return the path of the list that holds the layers of a model, such as ``model.layers``.

    Args:
        model: a Hugging Face causal language model.

    Raises:
        ValueError: If there is not exactly one list of as many modules as the config has layers.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> layer_list(GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1)))
        'transformer.h'
    """
    depth = model.config.get_text_config().num_hidden_layers
    paths = [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth
    ]
    # a layer can have as many experts as there are layers: ignore lists inside other lists
    outer = [path for path in paths if not any(path.startswith(f"{other}.") for other in paths)]
    if len(outer) != 1:
        raise ValueError(
            f"{type(model).__name__} must have one list of {depth} modules, its layers, got"
            f" {outer}; prune it yourself and wrap it with CausalLM.wrap"
        )
    return outer[0]
