"""A model of the class of another one, with a config and weights of its own."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from kdlight.models.pretrained import parse_dtype
from kdlight.models.training_weights import training_weights


def new_copy(model: Any, config: Any, weights: Mapping[str, Tensor], dtype: torch.dtype) -> Any:
    """Return a new model of the class of ``model``, as transformers would load it in ``dtype``.

    Args:
        model: a Hugging Face model.
        config: the config of the copy.
        weights: its weights, which are copied.
        dtype: its dtype.

    Raises:
        RuntimeError: If the weights do not fit the config.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1))
        >>> new_copy(model, model.config, model.state_dict(), torch.bfloat16).dtype
        torch.bfloat16
    """
    copied = new_model(model, config, dtype)
    copied.load_state_dict(weights)
    return copied.to(model.device)


def new_model(model: Any, config: Any, dtype: torch.dtype) -> Any:
    """Return a new model of the class of ``model`` with random weights, to be overwritten.

    Buffers that are no weights, such as the frequencies of rotary embeddings, are computed anew. A
    cast would round them to half precision, where transformers keeps float32.

    Args:
        model: a Hugging Face model.
        config: the config of the new one.
        dtype: its dtype.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1))
        >>> new_model(model, model.config, torch.float16).dtype
        torch.float16
    """
    with torch.random.fork_rng(devices=[]), _default_dtype(dtype):
        made = type(model)(copy.deepcopy(config))
    made.generation_config = copy.deepcopy(model.generation_config)
    return made


def copied_dtype(model: Any, dtype: str | torch.dtype | None) -> torch.dtype:
    """Return the dtype of a copy of a model; that of the model for None and ``"auto"``.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1))
        >>> copied_dtype(model, "auto"), copied_dtype(model, "float16")
        (torch.float32, torch.float16)
    """
    parsed = "auto" if dtype is None else parse_dtype(dtype)
    return parsed if isinstance(parsed, torch.dtype) else model.dtype


def copy_in_dtype(model: Any, dtype: str | torch.dtype | None) -> Any:
    """Return a copy of a Hugging Face model in a dtype; None and ``"auto"`` keep that of ``model``.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1))
        >>> copy_in_dtype(model, "bfloat16").dtype
        torch.bfloat16
    """
    wanted = copied_dtype(model, dtype)
    if wanted == model.dtype:
        return copy.deepcopy(model)
    with training_weights(model):
        return new_copy(model, model.config, model.state_dict(), wanted)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
