"""Losses: pure functions from logits to per-token values.

A loss maps the logits of student and teacher to one value a token, (..., V), (..., V) -> (...), in
float32 or wider, unreduced and without a factor T^2. Positions are already aligned; columns at -inf
on both sides are outside the vocabulary.
"""

from __future__ import annotations

from kdlight.losses.adaptive import adaptive_kl, todi
from kdlight.losses.alpha_beta import alpha_beta
from kdlight.losses.cross_entropy import cross_entropy
from kdlight.losses.decoupled import decoupled_kl
from kdlight.losses.kl import forward_kl, reverse_kl, symmetric_kl
from kdlight.losses.masked_mean import masked_mean
from kdlight.losses.mixtures import jensen_shannon, skew_forward_kl, skew_reverse_kl
from kdlight.losses.taid import taid
from kdlight.losses.total_variation import total_variation

__all__ = [
    "adaptive_kl",
    "alpha_beta",
    "cross_entropy",
    "decoupled_kl",
    "forward_kl",
    "jensen_shannon",
    "masked_mean",
    "reverse_kl",
    "skew_forward_kl",
    "skew_reverse_kl",
    "symmetric_kl",
    "taid",
    "todi",
    "total_variation",
]
