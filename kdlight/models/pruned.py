"""A student cut from its teacher: some of its layers, everything else shared by value."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from kdlight.models.pretrained import parse_dtype

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def choose_layers(layers: int | Sequence[int], *, depth: int) -> list[int]:
    """The layers of a model of ``depth`` layers that ``layers`` means, in order.

    Args:
        layers: the layers themselves, counted from 0, in increasing order; or how many, which are
            then evenly spaced and include the first and the last.
        depth: number of layers to choose from.

    Raises:
        ValueError: no layer, a layer twice or out of order, or one that is not there.

    Example:
        >>> choose_layers(4, depth=30)
        [0, 10, 19, 29]
    """
    if isinstance(layers, int):
        if not 1 <= layers <= depth:
            raise ValueError(f"layers={layers}: the model has {depth} layers, keep 1 to {depth}")
        step = (depth - 1) / max(layers - 1, 1)
        return [round(index * step) for index in range(layers)]
    chosen = list(layers)
    if not chosen:
        raise ValueError(f"layers=[] keeps nothing; name some of the layers 0 to {depth - 1}")
    outside = [index for index in chosen if not 0 <= index < depth]
    if outside:
        raise ValueError(
            f"layers={chosen}: {outside} are outside the model, whose layers are 0 to {depth - 1}"
        )
    if chosen != sorted(set(chosen)):
        raise ValueError(f"layers={chosen} must be in increasing order, each layer once")
    return chosen


def prune_layers(
    model: PreTrainedModel,
    layers: int | Sequence[int],
    *,
    dtype: str | torch.dtype | None = None,
) -> PreTrainedModel:
    """A shallower copy of a Hugging Face causal language model, in training mode.

    Embeddings, norms, head and the chosen layers are copied by value; no storage is shared, and
    what the model ties stays tied. Lists in the config with one entry a layer (``layer_types``) are
    cut with the layers. Keeping all layers gives the same logits to the bit.

    Layers are renumbered: a model that treats a layer by its number alone treats it by its new one.

    Args:
        model: any architecture whose layers are one `torch.nn.ModuleList`.
        layers: which layers, or how many, see `choose_layers`.
        dtype: of the copy; None keeps that of ``model``.

    Raises:
        ValueError: ``layers`` does not fit, or ``model`` is not built from one list of layers.

    Example:
        >>> from transformers import AutoModelForCausalLM, GPT2Config
        >>> teacher = AutoModelForCausalLM.from_config(GPT2Config(n_embd=8, n_layer=4, n_head=2))
        >>> prune_layers(teacher, [0, 3]).config.num_hidden_layers
        2
    """
    depth = model.config.get_text_config().num_hidden_layers
    kept = choose_layers(layers, depth=depth)
    path = _layer_list(model, depth=depth)
    with torch.random.fork_rng(devices=[]):  # the random first weights are overwritten below
        student: Any = type(model)(_cut_config(model.config, kept))
    try:
        student.to(model.dtype).load_state_dict(_cut_weights(model, path, kept))
    except RuntimeError as error:
        raise ValueError(
            f"{type(model).__name__} cannot be cut to layers={kept}: its layers are not"
            " interchangeable (which kind stands where is fixed by the config), or it is quantised"
        ) from error
    student.generation_config = copy.deepcopy(model.generation_config)
    return student.to(model.device, model.dtype if dtype is None else parse_dtype(dtype))


def _layer_list(model: nn.Module, *, depth: int) -> str:
    """Path of the one list that holds the layers, such as ``model.layers``."""
    paths = [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth
    ]
    # experts of a layer can be as many as layers: what stands inside a list is not a list of layers
    outer = [path for path in paths if not any(path.startswith(f"{other}.") for other in paths)]
    if len(outer) != 1:
        raise ValueError(
            f"{type(model).__name__} has {len(outer)} lists of {depth} modules {outer}, so which"
            " are its layers is not clear; cut it yourself and wrap it with CausalLM.wrap"
        )
    return outer[0]


def _cut_config(config: PreTrainedConfig, kept: list[int]) -> PreTrainedConfig:
    config = copy.deepcopy(config)
    text: Any = config.get_text_config()
    depth = text.num_hidden_layers
    for name, value in list(vars(text).items()):
        one_a_layer = isinstance(value, (list, tuple)) and len(value) == depth
        if one_a_layer and not name.endswith("token_id") and name != "architectures":
            setattr(text, name, type(value)(value[index] for index in kept))
    text.num_hidden_layers = len(kept)
    vars(config).pop("quantization_config", None)  # the weights are plain by now
    return config


def _cut_weights(model: nn.Module, path: str, kept: list[int]) -> dict[str, Any]:
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
