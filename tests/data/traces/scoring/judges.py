"""Tiny models as judges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from tests.support import tiny_lm


def constant_judge(logits: Mapping[str, float], *, others: float = -20.0) -> Any:
    """Return a model that gives the same logits at each token: those of characters, by name."""
    from transformers import PhiConfig, PhiForCausalLM

    tokenizer = tiny_lm.tokenizer()
    config = PhiConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=256,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = PhiForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.bias.fill_(others)
        for sign, value in logits.items():
            model.lm_head.bias[tokenizer.convert_tokens_to_ids(sign)] = value
    return model.eval()


def differing_judge() -> Any:
    """Return a model whose answer, 1 or 0, depends on the prompt."""
    model = tiny_lm.model().eval()
    zero, one = tiny_lm.tokenizer().convert_tokens_to_ids(["0", "1"])
    weight = model.lm_head.weight.data
    weight[[zero, one]] *= 40  # one of the two is most likely
    weight[one] = weight[zero] * 0.9 + weight[one] * 0.1
    return model
