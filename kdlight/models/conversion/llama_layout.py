"""Models whose weights are those of Llama, and the names that Bamba has for them."""

from __future__ import annotations

from typing import Any, NoReturn

ATTENTION = tuple(f"self_attn.{name}_proj" for name in "qkvo")

LAYER = {
    **{name: name for name in ATTENTION},
    **{f"mlp.{name}_proj": f"feed_forward.{name}_proj" for name in ("gate", "up", "down")},
    "input_layernorm": "input_layernorm",
    "post_attention_layernorm": "pre_ff_layernorm",
}
"""Names of the weights of a layer in Llama, and in Bamba where the layer has attention."""

WHOLE = {
    "model.embed_tokens": "model.embed_tokens",
    "model.norm": "model.final_layernorm",
    "lm_head": "lm_head",
}
"""Names of the weights outside of the layers, in Llama and in Bamba."""

SHOWN = 3
"""Number of weights that an error names."""


def bamba_names(depth: int) -> dict[str, str]:
    """Return the name in Bamba of each weight of Llama, if all layers keep their attention.

    Args:
        depth: number of layers.

    Example:
        >>> bamba_names(1)["model.layers.0.mlp.up_proj.weight"]
        'model.layers.0.feed_forward.up_proj.weight'
    """
    layers = {
        f"model.layers.{index}.{name}": f"model.layers.{index}.{ours}"
        for index in range(depth)
        for name, ours in LAYER.items()
    }
    return {f"{name}.weight": f"{ours}.weight" for name, ours in {**layers, **WHOLE}.items()}


def check_layout(model: Any) -> None:
    """Raise a ValueError for a model that has other weights than Llama, or other settings.

    Args:
        model: a Hugging Face causal language model.

    Raises:
        ValueError: If it cannot be converted; the message names what Bamba does not have.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1))
        >>> check_layout(model)
        Traceback (most recent call last):
        ValueError: GPT2LMHeadModel cannot be converted by HybridMamba: its weights are not ...
    """
    config = model.config
    weights = model.state_dict()
    expected = bamba_names(config.get_text_config().num_hidden_layers)
    other = [name for name in weights if name not in expected]
    missing = [name for name in expected if name not in weights]
    if other or missing:
        has = _listed("it has", other) or _listed("it lacks", missing)
        refuse(model, f"its weights are not those of Llama: {has}")
    if any(not weight.is_floating_point() for weight in weights.values()):
        refuse(model, "its weights are quantized; load it in a floating-point dtype")
    has_window = getattr(config, "sliding_window", None) is not None
    kinds = set(getattr(config, "layer_types", None) or ())
    if (has_window and getattr(config, "use_sliding_window", True)) or kinds - {"full_attention"}:
        refuse(
            model,
            f"its attention is limited (sliding_window={getattr(config, 'sliding_window', None)},"
            f" layer_types {sorted(kinds)}), which that of Bamba is not",
        )
    if config.hidden_act != "silu":
        refuse(model, f"hidden_act={config.hidden_act!r}, but mixers and kernels use 'silu'")
    _check_heads(model, weights)


def _check_heads(model: Any, weights: dict[str, Any]) -> None:
    config = model.config
    heads, width = config.num_attention_heads, config.hidden_size
    inner = weights["model.layers.0.self_attn.q_proj.weight"].shape[0]
    if inner % width:
        refuse(
            model,
            f"its {heads} heads have {inner} channels together, but those of Bamba's mixers are a"
            f" multiple of hidden_size={width}",
        )


def refuse(model: Any, reason: str) -> NoReturn:
    """Raise a ValueError that says why a model cannot be converted.

    Example:
        >>> refuse(1, "it is a number")
        Traceback (most recent call last):
        ValueError: int cannot be converted by HybridMamba: it is a number; give ...
    """
    raise ValueError(
        f"{type(model).__name__} cannot be converted by HybridMamba: {reason}; give a model like"
        " Llama, with full attention, rotary embeddings, and without biases"
    )


def _listed(verb: str, names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{verb} {', '.join(map(repr, names[:SHOWN]))}{more}" if names else ""
