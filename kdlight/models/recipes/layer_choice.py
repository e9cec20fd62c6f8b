"""The layers that a recipe keeps: given, evenly spaced, or the most important ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kdlight.checks import check_choice, check_integer
from kdlight.models.pruning.layer_importance import layer_importance, top_units
from kdlight.models.pruning.layer_pruning import choose_layers

RULES = ("even", "importance")


def check_layer_choice(layers: Any) -> bool:
    """Return whether ``layers`` are chosen by what is measured; check it as far as it can be.

    Args:
        layers: the layers, their number, or a mapping such as ``{"keep": 10, "by": "importance"}``,
            where ``by`` is ``"importance"`` (see `layer_importance`) or ``"even"``; None for all.

    Raises:
        TypeError: If the number is no integer.
        ValueError: If the mapping has other keys or values.

    Example:
        >>> check_layer_choice({"keep": 10, "by": "importance"})
        True
    """
    if not isinstance(layers, Mapping):
        return False
    if set(layers) != {"keep", "by"}:
        raise ValueError(
            "layers must be a list, a number, or a mapping of 'keep' and 'by', such as"
            f" {{'keep': 10, 'by': 'importance'}}, got {dict(layers)}"
        )
    check_integer("layers['keep']", layers["keep"], 1)
    check_choice("layers['by']", layers["by"], RULES)
    return layers["by"] == "importance"


def select_layers(
    model: Any, layers: int | Sequence[int] | Mapping[str, Any], batches: Sequence[Any]
) -> list[int]:
    """Return the indices of the layers to keep, in order.

    Args:
        model: a Hugging Face causal language model.
        layers: see `check_layer_choice`.
        batches: what importance is measured on, if ``layers`` asks for it.

    Raises:
        TypeError: If ``layers`` are no integers.
        ValueError: If they do not fit the model.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=4, n_head=1))
        >>> select_layers(model, {"keep": 2, "by": "even"}, [])
        [0, 3]
    """
    depth = model.config.get_text_config().num_hidden_layers
    if not isinstance(layers, Mapping):
        return choose_layers(layers, depth=depth)
    evenly = choose_layers(layers["keep"], depth=depth)  # which checks the number
    if not check_layer_choice(layers):
        return evenly
    return top_units(layer_importance(model, batches), layers["keep"])
