"""Scores of random logits, as a server returns them."""

from __future__ import annotations

import numpy as np
import torch

from kdlight.cache.records import Sequence
from kdlight.serve.scoring import score_top
from kdlight.sources import Dense


def scored(lengths: list[int], *, k: int, vocabulary: int, seed: int = 0) -> list[Sequence]:
    drawn = torch.Generator().manual_seed(seed)
    logits = Dense(3 * torch.randn(sum(lengths), vocabulary, generator=drawn))
    return score_top(logits, list(torch.arange(sum(lengths)).split(lengths)), k)


def is_same(one: Sequence, other: Sequence, *, atol: float = 0.0) -> bool:
    pairs = zip(one[1:], other[1:], strict=True)
    close = [a.shape == b.shape and np.allclose(a, b, rtol=0.0, atol=atol) for a, b in pairs]
    return one.length == other.length and all(close)
