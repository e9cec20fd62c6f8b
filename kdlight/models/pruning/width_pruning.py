"""A causal language model with fewer heads, neurons and hidden channels."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from kdlight.models.new_copy import copied_dtype, new_copy
from kdlight.models.pruning.decoder_parts import DecoderParts, decoder_parts
from kdlight.models.pruning.layer_importance import top_units
from kdlight.models.pruning.width_check import check_width_pruned
from kdlight.models.pruning.width_importance import WidthImportance
from kdlight.models.pruning.width_sizes import check_importance, check_width

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def prune_width(
    model: PreTrainedModel,
    *,
    heads: int | None = None,
    feed_forward: int | None = None,
    hidden: int | None = None,
    importance: WidthImportance | Literal["first"],
    dtype: str | torch.dtype | None = None,
) -> PreTrainedModel:
    """Return a copy of a causal language model with smaller layers, in training mode.

    The copy has the architecture of ``model`` and a config with other sizes, so transformers loads
    it without kdlight. The most important units are kept, in their order, and their weights are
    copied unchanged; tied weights stay tied, and no memory is shared. With all units the logits are
    bitwise equal; with fewer they are compared with those of ``model`` whose other units are zero.

    Each layer keeps its own heads and neurons. A key/value head is kept or removed together with
    the query heads that share it. Hidden channels are the same for the whole model.

    Muralidharan et al., "Compact Language Models via Pruning and Knowledge Distillation", 2024,
    section 2.3.

    Args:
        model: a model whose layers are like those of Llama: Llama, Mistral, Qwen2, Qwen3, SmolLM3,
            Granite; and Gemma, Gemma 2 and Gemma 3, but not their hidden channels, since they scale
            embeddings by the root of their number.
        heads: number of query heads to keep in each layer, whole groups; None keeps all.
        feed_forward: number of neurons to keep in each feed-forward network; None keeps all.
        hidden: number of hidden channels to keep, which is even; None keeps all.
        importance: what `width_importance` measured; ``"first"`` keeps the first units, for a
            student whose weights are loaded afterwards.
        dtype: dtype of the copy; None or ``"auto"`` keeps the dtype of ``model``.

    Raises:
        TypeError: If a size is no integer, or ``importance`` is of another kind.
        ValueError: If a size does not fit, ``importance`` is that of another model, ``model`` is
            built in another way, or something in it would compute something else in the copy.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> sizes = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2}
        >>> model = LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=9, num_attention_heads=4))
        >>> student = prune_width(model, heads=2, feed_forward=6, importance="first")
        >>> student.model.layers[0].mlp.down_proj.weight.shape
        torch.Size([8, 6])
    """
    parts = decoder_parts(model)
    check_width(parts, heads=heads, feed_forward=feed_forward, hidden=hidden)
    check_importance(parts, importance)
    config = _resize(model.config, parts, heads, feed_forward, hidden)
    kept = _kept_units(parts, heads, feed_forward, hidden, importance)
    weights = _slice_weights(model, parts, kept)
    try:
        student = new_copy(model, config, weights, model.dtype)
    except RuntimeError as error:
        raise ValueError(
            f"{type(model).__name__} cannot be pruned in width: other sizes in its config do not"
            " give a model of these sizes; prune it yourself and wrap it with CausalLM.wrap"
        ) from error
    check_width_pruned(model, student, parts, kept)
    wanted = copied_dtype(model, dtype)
    if wanted != model.dtype:
        student = new_copy(model, config, weights, wanted)
    return student.train()


def _resize(
    config: PreTrainedConfig,
    parts: DecoderParts,
    heads: int | None,
    feed_forward: int | None,
    hidden: int | None,
) -> PreTrainedConfig:
    config = copy.deepcopy(config)
    text: Any = config.get_text_config()
    if feed_forward is not None:
        text.intermediate_size = feed_forward
    if hidden is not None:
        text.hidden_size = hidden
    if heads is not None:
        text.num_attention_heads = heads
        text.num_key_value_heads = heads * parts.key_value_heads // parts.heads
    if (text.hidden_size, text.num_attention_heads) != (parts.hidden, parts.heads):
        text.head_dim = parts.head_dim  # else it would be the quotient of the two
    vars(config).pop("quantization_config", None)  # the weights are dequantized
    try:
        getattr(text, "validate", lambda: None)()
    except Exception as error:  # as transformers would when it loads the student
        reason = " ".join(str(error.__cause__ or error).split())
        raise ValueError(
            f"hidden={text.hidden_size} with heads={text.num_attention_heads}: the config of"
            f" {type(text).__name__} refuses these sizes: {reason}"
        ) from error
    return config


def _kept_units(
    parts: DecoderParts,
    heads: int | None,
    feed_forward: int | None,
    hidden: int | None,
    importance: WidthImportance | Literal["first"],
) -> dict[str, Tensor]:
    """Return the indices to keep along each kind of axis; those that are not there keep all."""
    group = parts.heads // parts.key_value_heads
    kept: dict[str, Tensor] = {}
    for layer in range(len(parts.attention)):
        if heads is not None:
            scores = None if importance == "first" else importance.heads[layer]
            groups = _highest(scores, heads // group)
            kept[f"queries {layer}"] = _blocks(groups, group * parts.head_dim)
            kept[f"keys {layer}"] = _blocks(groups, parts.head_dim)
        if feed_forward is not None:
            scores = None if importance == "first" else importance.feed_forward[layer]
            kept[f"neurons {layer}"] = _highest(scores, feed_forward)
    if hidden is not None:
        kept["hidden"] = _highest(None if importance == "first" else importance.hidden, hidden)
    return kept


def _highest(scores: Tensor | None, count: int) -> Tensor:
    return torch.arange(count) if scores is None else torch.tensor(top_units(scores, count))


def _blocks(units: Tensor, size: int) -> Tensor:
    """Return the rows of units that are blocks of ``size`` rows."""
    return (units[:, None] * size + torch.arange(size)).flatten()


def _slice_weights(model: Any, parts: DecoderParts, kept: dict[str, Tensor]) -> dict[str, Tensor]:
    weights = {}
    for name, weight in model.state_dict().items():
        for dim, axis in enumerate(parts.axes[name]):
            if axis in kept:
                weight = weight.index_select(dim, kept[axis].to(weight.device))
        weights[name] = weight
    return weights
