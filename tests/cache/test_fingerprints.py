"""Fingerprints change with what they describe."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from kdlight.cache.fingerprints import (
    fingerprint_template,
    fingerprint_tokenizer,
    fingerprint_weights,
)
from tests.support import tiny_lm


def network(change: str = "") -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made: Any = nn.Sequential(nn.Linear(60, 50), nn.Linear(50, 3))
    if change == "weight":
        with torch.no_grad():
            made[0].weight.mul_(1.001)
    if change == "dtype":
        made.bfloat16()
    if change == "name":
        made.add_module("2", nn.Identity())
        made.register_buffer("extra", torch.zeros(1))
    return made


def test_weights_names_and_dtypes_count() -> None:
    prints = [fingerprint_weights([network(each)]) for each in ("", "weight", "dtype", "name")]
    assert len(set(prints)) == 4
    assert fingerprint_weights([network()]) == prints[0]
    assert fingerprint_weights([network(), network()]) != prints[0]


def test_a_tokenizer_is_known_by_its_tokens_and_its_template() -> None:
    plain, chat = tiny_lm.tokenizer(), tiny_lm.tokenizer(chat=True)
    assert fingerprint_tokenizer(plain) == fingerprint_tokenizer(chat)
    assert fingerprint_template(plain) is None
    assert fingerprint_template(chat) is not None
    plain.add_tokens(["<new>"])
    assert fingerprint_tokenizer(plain) != fingerprint_tokenizer(chat)
    assert fingerprint_tokenizer(str.split) is None
