"""The weights of a model as they are in training, where evaluation changes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


@contextmanager
def training_weights(model: Any) -> Iterator[None]:
    """Within the context, ``model`` has the weights that it has in training.

    Some models change their weights at the first forward pass in evaluation mode, and back at the
    first in training mode: RWKV divides those of later layers by powers of two. Copies of its
    weights are right only if they are made in the mode that a new model is in.

    Args:
        model: a Hugging Face causal language model; its mode and weights are restored after.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1)).eval()
        >>> with training_weights(model):
        ...     weights = model.state_dict()
        >>> model.training
        False
    """
    modes = [(part, part.training) for part in model.modules()]
    given = _versions(model)
    run_on_tokens(model.train(), 2)
    trained = _versions(model)
    try:
        yield
    finally:
        if given != trained:  # they were those of evaluation
            run_on_tokens(model.eval(), 2)
        elif trained != _versions(model):
            run_on_tokens(model.train(), 2)
        for part, training in modes:
            part.training = training


def keep_training_weights(model: Any) -> None:
    """Let RWKV leave its weights alone in evaluation, or checkpoints of that time would hold them.

    The division by powers of two, which keeps float16 from overflowing, is turned off in the
    model's config. Other models are not changed.
    """
    if getattr(model.config, "rescale_every", 0):
        run_on_tokens(model.train(), 2)  # which turns back what an evaluation divided
        model.config.rescale_every = 0


@torch.no_grad()
def run_on_tokens(model: Any, count: int) -> Tensor:
    """Return the logits of the first ``count`` tokens of the vocabulary, without random effects.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1))
        >>> run_on_tokens(model, 2).shape
        torch.Size([1, 2, 9])
    """
    embeddings = model.get_input_embeddings().weight
    ids = torch.arange(count, device=embeddings.device)[None] % len(embeddings)
    devices = [embeddings.device] if embeddings.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        return model(input_ids=ids, use_cache=False).logits


def _versions(model: Any) -> list[int]:
    """Return how often each parameter was changed in place."""
    return [parameter._version for parameter in model.parameters()]
