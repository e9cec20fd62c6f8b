"""Checks of the sizes of a model that is pruned in width."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kdlight.checks import check_integer
from kdlight.models.pruning.decoder_parts import DecoderParts
from kdlight.models.pruning.width_importance import WidthImportance


def check_width(
    parts: DecoderParts, *, heads: int | None, feed_forward: int | None, hidden: int | None
) -> None:
    """Raise an error for sizes that a decoder cannot be pruned to; None keeps a size.

    Raises:
        TypeError: If a size is no integer.
        ValueError: If it is outside its range, ``heads`` are no whole groups, or ``hidden`` is odd.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> sizes = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2}
        >>> model = LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=9, num_attention_heads=2))
        >>> from kdlight.models.pruning.decoder_parts import decoder_parts
        >>> check_width(decoder_parts(model), heads=None, feed_forward=13, hidden=None)
        Traceback (most recent call last):
        ValueError: feed_forward must be 1 to 12, the width of the model, got 13
    """
    for name, size, full in (
        ("heads", heads, parts.heads),
        ("feed_forward", feed_forward, parts.intermediate),
        ("hidden", hidden, parts.hidden),
    ):
        if size is None:
            continue
        check_integer(name, size)
        if not 1 <= size <= full:
            raise ValueError(f"{name} must be 1 to {full}, the width of the model, got {size}")
    group = parts.heads // parts.key_value_heads
    if heads is not None and heads % group:
        raise ValueError(
            f"heads must be a multiple of {group}, since {group} query heads share a key/value head"
            f" and are kept or removed with it, got {heads}"
        )
    if hidden is not None and hidden % 2:
        raise ValueError(f"hidden must be even, since fast kernels need even widths, got {hidden}")


def check_importance(parts: DecoderParts, importance: Any) -> None:
    """Raise an error for an importance that was not measured on a model of this size.

    Raises:
        TypeError: If it is neither a `WidthImportance` nor ``"first"``.
        ValueError: If it has other shapes.
    """
    if isinstance(importance, str) and importance == "first":
        return
    if not isinstance(importance, WidthImportance):
        raise TypeError(
            "importance must be what width_importance returns, or 'first' for the first units, got"
            f" {importance!r}"
        )
    depth = len(parts.attention)
    shapes = {
        "heads": (depth, parts.key_value_heads),
        "feed_forward": (depth, parts.intermediate),
        "hidden": (parts.hidden,),
    }
    for name, shape in shapes.items():
        scores = getattr(importance, name)
        if not isinstance(scores, Tensor) or scores.shape != torch.Size(shape):
            got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise ValueError(
                f"importance.{name} must have shape {shape} for this model, got {got}; it was"
                " measured on another one: for fewer layers take importance.of_layers(layers)"
            )
