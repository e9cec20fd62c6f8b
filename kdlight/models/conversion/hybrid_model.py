"""A Llama converted to a hybrid of attention and Mamba-2 layers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch

from kdlight.models.conversion.bamba_config import bamba_config
from kdlight.models.conversion.llama_layout import ATTENTION, bamba_names, check_layout, refuse
from kdlight.models.conversion.mixer_start import start_mixer
from kdlight.models.new_copy import copied_dtype
from kdlight.models.pruning.pruning_check import logits_difference, skipped_layers, tolerance


def hybrid_model(
    model: Any,
    attention_layers: Sequence[int],
    *,
    dtype: str | torch.dtype | None = None,
    chunk_size: int = 256,
    seed: int = 0,
) -> Any:
    """Return a copy of a Hugging Face model like Llama with Mamba-2 mixers in place of attention.

    What is kept computes the same: logits are compared with those of ``model``, in both of which
    the converted layers do nothing. No memory is shared, and tied weights stay tied.

    Args:
        model: a model with the weights of Llama and full attention; it is not changed.
        attention_layers: the layers that keep their attention.
        dtype: dtype of the copy; None or ``"auto"`` keeps the dtype of ``model``.
        chunk_size: see `kdlight.models.HybridMamba`.
        seed: see `kdlight.models.HybridMamba`.

    Raises:
        ValueError: If Bamba cannot express the model.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> sizes = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2}
        >>> config = LlamaConfig(**sizes, vocab_size=9, num_attention_heads=2)
        >>> type(hybrid_model(LlamaForCausalLM(config), [0]).model.layers[1].mamba).__name__
        'BambaMixer'
    """
    check_layout(model)
    config = bamba_config(model.config, attention_layers, chunk_size=chunk_size)
    converted = [i for i in range(config.num_hidden_layers) if i not in attention_layers]
    compared = _converted(model, config, converted, model.dtype, seed)
    _check_kept(model, compared, converted)
    wanted = copied_dtype(model, dtype)
    if wanted != model.dtype:
        compared = _converted(model, config, converted, wanted, seed)
    return compared.train()


def _converted(model: Any, config: Any, converted: list[int], dtype: torch.dtype, seed: int) -> Any:
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # a cast afterwards would round the frequencies of rotary embeddings, too
        student: Any = AutoModelForCausalLM.from_config(copy.deepcopy(config), dtype=dtype)
    names = bamba_names(config.num_hidden_layers)
    taken = tuple(f"model.layers.{index}.{name}." for index in converted for name in ATTENTION)
    kept = {names[k]: v for k, v in model.state_dict().items() if not k.startswith(taken)}
    missing, unexpected = student.load_state_dict(kept, strict=False)
    assert not unexpected, unexpected
    assert all(".mamba." in name for name in missing), missing
    for index in converted:
        start_mixer(student.model.layers[index].mamba, model.model.layers[index].self_attn)
    student.generation_config = copy.deepcopy(model.generation_config)
    return student.to(model.device)


def _check_kept(model: Any, student: Any, converted: list[int]) -> None:
    ours, theirs = ([each.model.layers[i] for i in converted] for each in (student, model))
    with skipped_layers(ours):
        difference = logits_difference(model, student, skipped_layers(theirs))
    # those of a model that was cast to half precision are rounded
    one, other = (each.model.rotary_emb.inv_freq.float() for each in (student, model))
    if not difference <= tolerance(model) or not torch.allclose(one, other, rtol=1e-2):
        refuse(
            model,
            f"the layers that are kept compute something else in Bamba (logits differ by"
            f" {difference:.2g} of their size), as where hidden states, norms or logits are scaled",
        )
