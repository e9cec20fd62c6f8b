"""What the generation config of a network sets beside the arguments of ``generate``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from kdlight.models.end_tokens import generation_config

BY_SEQUENCE = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "max_length",
    "max_new_tokens",
    "min_length",
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "top_h",
    "min_p",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "bad_words_ids",
    "suppress_tokens",
    "sequence_bias",
    "renormalize_logits",
    "remove_invalid_values",
    "use_cache",
    "num_return_sequences",
    "length_penalty",
    "return_dict_in_generate",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "output_logits",
    "transformers_version",
)
"""Settings whose effect on a token depends on the tokens before it, wherever a call began."""

WITHOUT_EFFECT = {
    "num_beams": 1,
    "num_beam_groups": 1,
    "guidance_scale": 1,
    "encoder_repetition_penalty": 1,
    "num_assistant_tokens": 20,
    "num_assistant_tokens_schedule": "constant",
    "assistant_confidence_threshold": 0.4,
    "assistant_lookbehind": 10,
    "target_lookbehind": 10,
}
"""Values of other settings that change nothing, beside None, False and 0."""


def settings_of_a_call(network: Any) -> list[str]:
    """Return the settings of a network for which a call of ``generate`` cannot be divided.

    Such a setting counts tokens from the start of a call, as ``min_new_tokens`` does, reads the
    prompt of the call, or needs a cache of its own, as beams do.

    Example:
        >>> from types import SimpleNamespace
        >>> config = SimpleNamespace(top_k=5, num_beams=1, min_new_tokens=8, guidance_scale=1.5)
        >>> settings_of_a_call(SimpleNamespace(generation_config=config))
        ['guidance_scale', 'min_new_tokens']
    """
    settings = getattr(generation_config(network), "__dict__", {})
    return sorted(
        name
        for name, value in settings.items()
        if value
        and not name.startswith("_")
        and name not in BY_SEQUENCE
        and WITHOUT_EFFECT.get(name) != value
    )


def uses_transformers(network: Any) -> bool:
    """Return whether the ``generate`` method of a network, or of its model, is Hugging Face's.

    Example:
        >>> uses_transformers(object())
        False
    """
    from transformers import GenerationMixin

    return any(
        isinstance(each, GenerationMixin) for each in (network, getattr(network, "model", 0))
    )


def suppressed_tokens(network: Any) -> list[int]:
    """Return the ids that the generation config of a network never draws.

    Example:
        >>> suppressed_tokens(object())
        []
    """
    return list(getattr(generation_config(network), "suppress_tokens", None) or ())


@contextmanager
def neutral_settings(network: Any) -> Iterator[None]:
    """Within the block, the generation config of a network sets its special tokens alone.

    Tokens are then drawn from the distribution of the network, at the temperature that ``generate``
    is given. A model comes with settings that change it, such as a penalty for repetition.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=5, n_embd=4, n_layer=1, n_head=1))
        >>> model.generation_config.repetition_penalty = 1.5
        >>> with neutral_settings(model):
        ...     model.generation_config.repetition_penalty
        >>> model.generation_config.repetition_penalty
        1.5
    """
    from transformers import GenerationConfig

    parts: Iterable[Any] = network.modules() if isinstance(network, nn.Module) else [network]
    kept: list[tuple[Any, Any]] = [
        (part, part.generation_config)
        for part in parts
        if isinstance(getattr(part, "__dict__", {}).get("generation_config"), GenerationConfig)
    ]
    try:
        for part, config in kept:
            names = ("bos_token_id", "eos_token_id", "pad_token_id")
            tokens = {name: getattr(config, name) for name in names}
            part.generation_config = GenerationConfig(**tokens)
        yield
    finally:
        for part, config in kept:
            part.generation_config = config
