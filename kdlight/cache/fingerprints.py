"""Fingerprints of a teacher, a tokenizer and a chat template, to detect that one has changed."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any

import torch
from torch import nn

SAMPLES = 1024
"""Number of entries of a weight that are hashed: training changes all, and hashing all is slow."""


def fingerprint_weights(networks: list[nn.Module]) -> str:
    """Return a hash of names, shapes, dtypes and evenly spaced entries of all weights."""
    digest = blake2b(digest_size=16)
    for network in networks:
        for name, weight in network.state_dict().items():
            if not isinstance(weight, torch.Tensor):
                continue
            digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
            flat = weight.detach().flatten()
            sampled = flat[:: max(len(flat) // SAMPLES, 1)].cpu().contiguous()
            digest.update(sampled.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def fingerprint_tokenizer(tokenizer: Any) -> str | None:
    """Return a hash of all tokens and their ids; None if it is not a Hugging Face tokenizer."""
    if not hasattr(tokenizer, "get_vocab"):
        return None
    return _hash(sorted(tokenizer.get_vocab().items()))


def fingerprint_template(tokenizer: Any) -> str | None:
    """Return a hash of the chat template; None without one."""
    template = getattr(tokenizer, "chat_template", None)
    return None if template is None else _hash(template)


def _hash(value: Any) -> str:
    return blake2b(json.dumps(value).encode(), digest_size=16).hexdigest()
