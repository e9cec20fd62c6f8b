"""A causal language model with fewer layers."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import torch

from kdlight.models.new_copy import copied_dtype, new_copy
from kdlight.models.pruning.kept_layers import prune_config, prune_names
from kdlight.models.pruning.layer_list import layer_list
from kdlight.models.pruning.pruning_check import check_pruned
from kdlight.models.training_weights import training_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
        dtype: dtype of the copy; None or ``"auto"`` keeps the dtype of ``model``.

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
    config = prune_config(model.config, kept)
    wanted = copied_dtype(model, dtype)
    with training_weights(model):
        weights = prune_names(model.state_dict(), path, kept)
        try:
            compared = new_copy(model, config, weights, model.dtype)
        except RuntimeError as error:
            raise ValueError(
                f"{type(model).__name__} cannot be pruned to layers={kept}: its layers are not"
                " interchangeable (the config fixes the kind of each layer), or it is quantized"
            ) from error
        student = compared if wanted == model.dtype else new_copy(model, config, weights, wanted)
        check_pruned(model, compared, path, kept)
    return student.train()
