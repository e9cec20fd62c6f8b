"""A pruned model compared with the model that it was made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from kdlight.models.evaluating import evaluating
from kdlight.models.training_weights import run_on_tokens

TOKENS = 8
"""Length of the sequence on which the two are compared."""

NO_SETTINGS = ("training", "gradient_checkpointing", "_is_hf_initialized")
"""Attributes of modules that say nothing of what they compute."""


def check_pruned(model: Any, student: Any, path: str, kept: list[int]) -> None:
    """Raise a ValueError where kept layers compute something else than in the model they are from.

    Logits are compared with those of ``model`` in which all other layers do nothing, and so are the
    settings of each kept layer, such as whether its attention slides.

    Args:
        model: the model.
        student: the pruned copy, in the dtype of the model.
        path: path of the list that holds the layers.
        kept: the layers that the copy has.

    Raises:
        ValueError: If they differ.
    """
    name = type(model).__name__
    for new, old in enumerate(kept):
        one, other = (each.get_submodule(path)[i] for each, i in ((model, old), (student, new)))
        if different := _different_setting(one, other, old, new):
            raise ValueError(
                f"{name} cannot be pruned to layers={kept}: layer {old} has {different}, so that it"
                " would compute something else; keep layers in a pattern like the model's own, or"
                " prune it yourself and wrap it with CausalLM.wrap"
            )
    layers = model.get_submodule(path)
    skipped = [layer for index, layer in enumerate(layers) if index not in kept]
    difference = logits_difference(model, student, skipped_layers(skipped))
    if not difference <= tolerance(model):
        raise ValueError(
            f"{name} cannot be pruned to layers={kept}: the logits differ by {difference:.2g} of"
            " their size from those of these layers in the model, so its layers depend on their"
            " place or on each other; prune it yourself and wrap it with CausalLM.wrap"
        )


def logits_difference(model: Any, student: Any, changed: AbstractContextManager[Any]) -> float:
    """Return how far the logits of two models are apart on a few tokens, relative to their size.

    Args:
        model: a Hugging Face causal language model.
        student: another one; both run in evaluation mode.
        changed: the context in which ``model`` runs, such as hooks that leave parts of it out.

    Example:
        >>> from contextlib import nullcontext
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1))
        >>> logits_difference(model, model, nullcontext())
        0.0
    """
    length = min(TOKENS, getattr(model.config.get_text_config(), "max_position_embeddings", TOKENS))
    with evaluating(model), evaluating(student):
        with changed:
            expected = run_on_tokens(model, length).float()
        got = run_on_tokens(student, length).float().to(expected.device)
    return float((got - expected).abs().max() / expected.abs().max().clamp(min=1e-30))


def tolerance(model: Any) -> float:
    """Return the relative difference of logits that is left to rounding in the model's dtype."""
    return 5e-2 if model.dtype in (torch.float16, torch.bfloat16) else 1e-3


@contextmanager
def skipped_layers(layers: list[nn.Module]) -> Iterator[None]:
    """Within the context, let layers return the hidden states that they get.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> with skipped_layers([layer]):
        ...     layer(torch.ones(2))
        tensor([1., 1.])
    """
    handles = [layer.register_forward_hook(_return_input, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _return_input(
    layer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any
) -> Any:
    hidden = args[0] if args else kwargs["hidden_states"]
    return hidden if isinstance(output, Tensor) else type(output)((hidden, *output[1:]))


def _different_setting(one: nn.Module, other: nn.Module, old: int, new: int) -> str | None:
    """Describe the first number, text or flag of two layers that differs, except their index."""
    for (path, first), second in zip(one.named_modules(), other.modules(), strict=True):
        for name, value in vars(first).items():
            is_plain = isinstance(value, (bool, int, float, str, type(None)))
            copied = vars(second).get(name)
            if not is_plain or name in NO_SETTINGS or (value, copied) == (old, new):
                continue
            if value != copied:
                where = f"{path}.{name}" if path else name
                return f"{where}={value!r}, but in the copy {copied!r}"
    return None
