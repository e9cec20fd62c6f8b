"""The config and the weights that a model keeps with some of its layers."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

Value = TypeVar("Value")


def prune_config(config: PreTrainedConfig, kept: Sequence[int]) -> PreTrainedConfig:
    """Return a copy of a config with the entries of the layers that are kept.

    Args:
        config: the config of a model.
        kept: indices of layers, in order.

    Example:
        >>> from transformers import GPT2Config
        >>> prune_config(GPT2Config(n_layer=4), [0, 3]).num_hidden_layers
        2
    """
    config = copy.deepcopy(config)
    text: Any = config.get_text_config()
    depth = text.num_hidden_layers
    for name, value in list(vars(text).items()):
        is_per_layer = isinstance(value, (list, tuple)) and len(value) == depth
        if is_per_layer and not name.endswith("token_id") and name != "architectures":
            setattr(text, name, type(value)(value[index] for index in kept))
    text.num_hidden_layers = len(kept)
    vars(config).pop("quantization_config", None)  # the weights are dequantized
    return config


def prune_names(values: Mapping[str, Value], path: str, kept: Sequence[int]) -> dict[str, Value]:
    """Return what is kept of a state dict, under the names that it has then.

    Args:
        values: by their names in a model.
        path: path of the list that holds the layers.
        kept: indices of layers, in order.

    Example:
        >>> prune_names({"head": 1, "layers.0.weight": 2, "layers.3.weight": 3}, "layers", [0, 3])
        {'head': 1, 'layers.0.weight': 2, 'layers.1.weight': 3}
    """
    renumbered = {str(old): str(new) for new, old in enumerate(kept)}
    pruned = {}
    for name, value in values.items():
        if name.startswith(f"{path}."):
            index, dot, rest = name.removeprefix(f"{path}.").partition(".")
            if index not in renumbered:
                continue
            name = f"{path}.{renumbered[index]}{dot}{rest}"
        pruned[name] = value
    return pruned
