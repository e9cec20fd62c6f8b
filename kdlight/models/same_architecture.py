"""Two models of one architecture: what differs first, if anything does."""

from __future__ import annotations

from typing import Any

WITHOUT_EFFECT = frozenset(
    {
        "_name_or_path",
        "architectures",
        "dtype",
        "initializer_range",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    }
)
"""Entries of a config that change neither the weights nor the logits."""


def first_difference(one: Any, other: Any) -> str | None:
    """Describe the first thing in which two models of transformers differ, except their weights.

    These are the class, the entries of the config that the logits depend on, and the names and
    shapes of weights. Ids of special tokens and rates of dropout may differ.

    Args:
        one: a model.
        other: another one.

    Returns:
        Such as ``"hidden_size: 8 and 16"``; None if they have one architecture.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> configs = (GPT2Config(vocab_size=9, n_embd=n, n_layer=1, n_head=1) for n in (8, 6))
        >>> first_difference(*map(GPT2LMHeadModel, configs))
        'n_embd: 8 and 6'
    """
    if type(one) is not type(other):
        return f"class: {type(one).__name__} and {type(other).__name__}"
    configs = [each.config.to_dict() for each in (one, other)]
    shapes = [
        {name: tuple(value.shape) for name, value in each.state_dict().items()}
        for each in (one, other)
    ]
    for first, second in (configs, shapes):
        for name in {**first, **second}:
            if not _is_without_effect(name) and first.get(name) != second.get(name):
                return f"{name}: {first.get(name)!r} and {second.get(name)!r}"
    return None


def _is_without_effect(name: str) -> bool:
    is_dropout = "dropout" in name or name.endswith("pdrop")
    return name in WITHOUT_EFFECT or name.endswith("token_id") or is_dropout
