"""A causal language model with fewer layers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from kdlight.models.pretrained import parse_dtype
from kdlight.models.pruning.layer_list import layer_list
from kdlight.models.pruning.pruning_check import check_pruned
from kdlight.models.training_weights import training_weights

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def choose_layers(layers: int | Sequence[int], *, depth: int) -> list[int]:
    """Return the indices of the layers to keep, in order.

    Args:
        layers: indices of layers from 0, in increasing order; or the number of layers, which are
            then evenly spaced and include the first and the last.
        depth: number of layers of the model.

    Raises:
        TypeError: If ``layers`` is neither an integer nor a sequence of integers.
        ValueError: If there is no layer, a layer is repeated or out of order, or does not exist.

    Example:
        >>> choose_layers(4, depth=30)
        [0, 10, 19, 29]
    """
    if isinstance(layers, Integral) and not isinstance(layers, bool):
        layers = int(layers)
        if not 1 <= layers <= depth:
            raise ValueError(f"layers must be 1 to {depth} of the {depth} layers, got {layers}")
        step = (depth - 1) / max(layers - 1, 1)
        return [round(index * step) for index in range(layers)]
    chosen: list[Any] = list(layers) if isinstance(layers, Sequence) else [None]
    if not all(type(index) is int for index in chosen):
        raise TypeError(
            "layers must be a number of layers or the indices of some, such as 2 or [0, 3], got"
            f" {layers!r}"
        )
    if not chosen:
        raise ValueError(f"layers must hold at least one of the layers 0 to {depth - 1}, got []")
    outside = [index for index in chosen if not 0 <= index < depth]
    if outside:
        raise ValueError(
            f"layers must be indices from 0 to {depth - 1}, got {chosen}: {outside} are outside the"
            " model"
        )
    if chosen != sorted(set(chosen)):
        raise ValueError(f"layers must be in increasing order, each layer once, got {chosen}")
    return chosen


def prune_layers(
    model: PreTrainedModel,
    layers: int | Sequence[int],
    *,
    dtype: str | torch.dtype | None = None,
) -> PreTrainedModel:
    """Return a copy of a Hugging Face causal language model with fewer layers, in training mode.

    Embeddings, norms, head and the chosen layers are copied. No memory is shared, and tied weights
    stay tied. Lists in the config with one entry per layer (``layer_types``) are pruned with the
    layers. With all layers the logits are bitwise equal; with fewer they are compared with those of
    ``model`` in which all other layers do nothing.

    Args:
        model: a model of any architecture whose layers are one `torch.nn.ModuleList`.
        layers: the layers to keep, or their number, see `choose_layers`.
        dtype: dtype of the copy; None keeps the dtype of ``model``.

    Raises:
        TypeError: If ``layers`` are no integers.
        ValueError: If ``layers`` does not fit, ``model`` is not built from one list of layers, or a
            layer would compute something else in the copy, since it depends on its place.

    Example:
        >>> from transformers import AutoModelForCausalLM, GPT2Config
        >>> teacher = AutoModelForCausalLM.from_config(GPT2Config(n_embd=8, n_layer=4, n_head=2))
        >>> prune_layers(teacher, [0, 3]).config.num_hidden_layers
        2
    """
    depth = model.config.get_text_config().num_hidden_layers
    kept = choose_layers(layers, depth=depth)
    path = layer_list(model)
    with torch.random.fork_rng(devices=[]):  # the random initial weights are overwritten below
        student: Any = type(model)(_prune_config(model.config, kept))
    with training_weights(model):
        try:
            student.to(model.dtype).load_state_dict(_prune_weights(model, path, kept))
        except RuntimeError as error:
            raise ValueError(
                f"{type(model).__name__} cannot be pruned to layers={kept}: its layers are not"
                " interchangeable (the config fixes the kind of each layer), or it is quantized"
            ) from error
        student.generation_config = copy.deepcopy(model.generation_config)
        student.to(model.device)
        check_pruned(model, student, path, kept)
    return student.train().to(dtype=model.dtype if dtype is None else parse_dtype(dtype))


def _prune_config(config: PreTrainedConfig, kept: list[int]) -> PreTrainedConfig:
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


def _prune_weights(model: nn.Module, path: str, kept: list[int]) -> dict[str, Any]:
    renumbered = {str(old): str(new) for new, old in enumerate(kept)}
    weights = {}
    for name, value in model.state_dict().items():
        if name.startswith(f"{path}."):
            index, _, rest = name.removeprefix(f"{path}.").partition(".")
            if index not in renumbered:
                continue
            name = f"{path}.{renumbered[index]}.{rest}"
        weights[name] = value
    return weights
