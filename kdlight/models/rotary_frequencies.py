"""Frequencies of rotary embeddings, which a cast of a model to half precision would round."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def kept_frequencies(module: nn.Module) -> Iterator[None]:
    """Keep the dtype of rotary frequencies while ``module`` is cast within the context.

    transformers loads a model in half precision with frequencies in float32, but ``.to(dtype)``
    casts them, too: at position 400 an angle is then wrong by more than half a radian. Lightning's
    ``precision="bf16-true"`` casts in this way, so the exported student, with exact frequencies,
    would not be the one that was trained.

    Example:
        >>> import torch
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> config = LlamaConfig(vocab_size=9, hidden_size=8, intermediate_size=8,
        ...                      num_hidden_layers=1, num_attention_heads=1)
        >>> model = LlamaForCausalLM(config)
        >>> with kept_frequencies(model):
        ...     _ = model.to(torch.bfloat16)
        >>> model.dtype, model.model.rotary_emb.inv_freq.dtype
        (torch.bfloat16, torch.float32)
    """
    before = [
        (part, name, buffer)
        for part in module.modules()
        for name, buffer in part._buffers.items()
        if name.endswith("inv_freq") and buffer is not None
    ]
    yield
    for part, name, buffer in before:
        cast = part._buffers[name]
        if cast is not None and cast.dtype.itemsize < buffer.dtype.itemsize:
            part._buffers[name] = buffer.to(cast.device)
