"""The parts of a Llama-like decoder, recognized by its structure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from torch import nn

from kdlight.models.pruning.layer_list import layer_list

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")

Axis = str | None
"""What an axis of a weight belongs to: ``"hidden"``, ``"queries 0"`` of layer 0 and so on."""


@dataclass(frozen=True)
class DecoderParts:
    """Where a decoder holds what can be pruned in width.

    Attributes:
        attention: path of the attention of each layer.
        feed_forward: path of the feed-forward network of each layer.
        norms: paths of the norms of hidden states.
        axes: what each axis of each weight belongs to, by the name of the weight.
        heads: number of query heads.
        key_value_heads: number of key/value heads.
        head_dim: width of a head.
        intermediate: width of the feed-forward networks.
        hidden: width of the hidden states.
    """

    attention: list[str]
    feed_forward: list[str]
    norms: list[str]
    axes: dict[str, tuple[Axis, ...]]
    heads: int
    key_value_heads: int
    head_dim: int
    intermediate: int
    hidden: int


def decoder_parts(model: Any) -> DecoderParts:
    """Find the parts of a decoder whose layers are like those of Llama.

    Each layer has one attention (``q_proj``, ``k_proj``, ``v_proj``, ``o_proj``), one gated
    feed-forward network (``gate_proj``, ``up_proj``, ``down_proj``), and norms. Every weight of the
    model must be one of them, the embeddings, or the head.

    Args:
        model: a Hugging Face causal language model.

    Raises:
        ValueError: If it is built in another way.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> sizes = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2}
        >>> config = LlamaConfig(**sizes, vocab_size=9, num_attention_heads=2)
        >>> decoder_parts(LlamaForCausalLM(config)).axes["model.layers.1.mlp.down_proj.weight"]
        ('hidden', 'neurons 1')
    """
    path = layer_list(model)
    indices = range(len(model.get_submodule(path)))
    attention = [_only(model, f"{path}.{index}", ATTENTION) for index in indices]
    feed_forward = [_only(model, f"{path}.{index}", FEED_FORWARD) for index in indices]
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    key_value_heads = getattr(config, "num_key_value_heads", None) or heads
    query, gate = (model.get_submodule(each[0]) for each in (attention, feed_forward))
    sizes = {
        "heads": heads,
        "key_value_heads": key_value_heads,
        "head_dim": query.q_proj.out_features // heads,
        "intermediate": gate.gate_proj.out_features,
        "hidden": query.q_proj.in_features,
    }
    axes: dict[str, tuple[Axis, ...]] = {}
    for index in indices:
        queries, keys, neurons = f"queries {index}", f"keys {index}", f"neurons {index}"
        for name, rows, columns in (
            (f"{attention[index]}.q_proj", queries, "hidden"),
            (f"{attention[index]}.k_proj", keys, "hidden"),
            (f"{attention[index]}.v_proj", keys, "hidden"),
            (f"{attention[index]}.o_proj", "hidden", queries),
            (f"{feed_forward[index]}.gate_proj", neurons, "hidden"),
            (f"{feed_forward[index]}.up_proj", neurons, "hidden"),
            (f"{feed_forward[index]}.down_proj", "hidden", neurons),
        ):
            axes |= {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        name = next(path for path, each in model.named_modules() if each is module)
        axes |= {f"{name}.weight": (None, "hidden"), f"{name}.bias": (None,)}
    norms = _add_norms(model, axes, (*attention, *feed_forward), sizes)
    if not norms:
        _refuse(model, "its norms of hidden states have no weights")
    weights = model.state_dict()
    parts = DecoderParts(
        attention, feed_forward, norms, {name: axes[name] for name in weights if name in axes},
        **sizes,
    )  # fmt: skip
    _check(model, parts, weights)
    return parts


def _only(model: Any, layer: str, names: tuple[str, ...]) -> str:
    """Return the path of the one module of a layer that has linear layers of these names."""
    found = [
        f"{layer}.{path}" if path else layer
        for path, module in model.get_submodule(layer).named_modules()
        if all(isinstance(getattr(module, name, None), nn.Linear) for name in names)
    ]
    if len(found) != 1:
        _refuse(model, f"{layer} has {len(found)} modules with {', '.join(names)}, and must have 1")
    return found[0]


def _add_norms(
    model: Any, axes: dict[str, Any], inner: tuple[str, ...], sizes: dict[str, int]
) -> list[str]:
    """Add the weights of norms to ``axes``; return the paths of those of hidden states."""
    found = []
    for path, module in model.named_modules():
        own = {f"{path}.{name}": each for name, each in module.named_parameters(recurse=False)}
        if not own or axes.keys() & own.keys() or any(each.dim() != 1 for each in own.values()):
            continue
        is_inner = path.startswith(tuple(f"{each}." for each in inner))
        width = sizes["head_dim" if is_inner else "hidden"]
        if all(len(each) == width for each in own.values()):
            axes |= dict.fromkeys(own, (None,) if is_inner else ("hidden",))
            found += [] if is_inner else [path]
    return found


def _check(model: Any, parts: DecoderParts, weights: dict[str, Any]) -> None:
    """Refuse weights of an unknown place or size."""
    sizes = {
        "hidden": parts.hidden,
        "queries": parts.heads * parts.head_dim,
        "keys": parts.key_value_heads * parts.head_dim,
        "neurons": parts.intermediate,
    }
    if parts.heads % parts.key_value_heads:
        _refuse(model, f"{parts.heads} heads do not share {parts.key_value_heads} key/value heads")
    for name, weight in weights.items():
        axes = parts.axes.get(name)
        if axes is None or len(axes) != weight.dim():
            _refuse(model, f"{name} {tuple(weight.shape)} is no part of such a decoder")
        for size, axis in zip(weight.shape, axes, strict=True):
            if axis is not None and size != sizes[axis.split()[0]]:
                _refuse(
                    model,
                    f"{name} has shape {tuple(weight.shape)}, where layers of one width have"
                    f" {sizes[axis.split()[0]]} {axis}",
                )


def _refuse(model: Any, reason: str) -> NoReturn:
    raise ValueError(
        f"{type(model).__name__} cannot be pruned in width: {reason}; only decoders whose layers"
        " are like those of Llama can, with attention from q_proj, k_proj, v_proj and o_proj, a"
        " feed-forward network from gate_proj, up_proj and down_proj, and norms. Prune its layers,"
        " or wrap a model that you pruned yourself with CausalLM.wrap"
    )
