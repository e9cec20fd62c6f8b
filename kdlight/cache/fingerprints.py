"""Fingerprints: is it the same teacher, the same tokenizer, the same template?"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any

import torch
from torch import nn

SAMPLES = 1024
"""Entries of a weight that are looked at: training moves them all, and reading all takes long."""


def fingerprint_weights(networks: list[nn.Module]) -> str:
    """Of names, shapes, dtypes and evenly spaced entries of all weights."""
    digest = blake2b(digest_size=16)
    for network in networks:
        for name, weight in network.state_dict().items():
            if not isinstance(weight, torch.Tensor):
                continue
            digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
            flat = weight.detach().flatten()
            some = flat[:: max(len(flat) // SAMPLES, 1)].cpu().contiguous()
            digest.update(some.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def fingerprint_tokenizer(tokenizer: Any) -> str | None:
    """Of every token and its id; None for what is no Hugging Face tokenizer."""
    if not hasattr(tokenizer, "get_vocab"):
        return None
    return _of(sorted(tokenizer.get_vocab().items()))


def fingerprint_template(tokenizer: Any) -> str | None:
    """Of the chat template; None where there is none."""
    template = getattr(tokenizer, "chat_template", None)
    return None if template is None else _of(template)


def _of(value: Any) -> str:
    return blake2b(json.dumps(value).encode(), digest_size=16).hexdigest()
