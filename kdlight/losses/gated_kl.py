"""KL between two distributions of which only a gated part is compared token by token."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from kdlight.losses.log_space import FORBIDDEN
from kdlight.losses.topk import log_mass

Tail: TypeAlias = Literal["bucket", "renorm", "renorm_teacher", "none", "residual"]
TAILS = ("bucket", "renorm", "renorm_teacher", "none", "residual")


def gated_kl(log_p: Tensor, log_q: Tensor, gate: Tensor, *, tail: Tail, residual: float) -> Tensor:
    """KL of what a gate lets through, (..., V), (..., V), (..., V) -> (...), with a slope in log q.

    A token of gate g counts with g of its probability on both sides; the rest of it goes to the
    tail. Where the student alone forbids (-inf) what is kept, the value is +inf and the slope not.
    """
    with torch.no_grad():
        weights = log_p.exp() * gate
        log_gate = gate.log()
        log_kept = log_mass(log_p + log_gate)
        kept, left = log_kept.exp(), log_mass(log_p + (1 - gate).log()).exp()
    ratio = torch.where(weights != 0, log_p - log_q, 0.0)
    shared = (weights * ratio).sum(-1)
    if tail == "none":
        return shared
    if tail == "renorm":
        log_others = log_mass(log_q + log_gate)
        return shared / kept - log_kept + log_others.masked_fill(log_others == -torch.inf, 0.0)
    if tail == "renorm_teacher":
        inside = torch.where(weights != 0, weights * log_gate, 0.0).sum(-1)
        return (shared + inside) / kept - log_kept
    share = residual if tail == "residual" else 0.0
    whole, rest = kept + share * left, (1 - share) * left  # what the target puts on either side
    value = whole / kept * shared + whole * (whole / kept).log()
    log_rest = log_mass(log_q + (1 - gate).log())
    return value + torch.where(rest > 0, rest * (rest.log() - log_rest), 0.0)


@torch.no_grad()
def gate_slopes(
    log_p: Tensor, log_q: Tensor, gate: Tensor, *, tail: Tail, residual: float
) -> Tensor:
    """The slopes of `gated_kl` in the gate, (..., V), (..., V), (..., V) -> (..., V), finite."""
    p, q = log_p.exp(), log_q.exp()
    ratio = log_p - log_q
    ratio = ratio.masked_fill(~(ratio.abs() < FORBIDDEN), 0.0)
    kept, shared = (gate * p).sum(-1, True), (gate * p * ratio).sum(-1, True)
    if tail == "none":
        return p * ratio
    if tail == "renorm":
        slopes = p * (ratio - shared / kept - 1) / kept + q / (gate * q).sum(-1, True)
    elif tail == "renorm_teacher":
        inner = ratio + gate.log() - kept.log()
        mean = torch.where(gate > 0, gate * p / kept * inner, 0.0).sum(-1, True)
        slopes = p / kept * (inner - mean)
    else:
        share = residual if tail == "residual" else 0.0
        left = ((1 - gate) * p).sum(-1, True)
        whole, rest = kept + share * left, (1 - share) * left
        scale = whole / kept
        slopes = scale * p * ratio + (1 - share) * p * scale.log()
        slopes += p * (1 - share - scale) / kept * (shared + kept)
        log_rest = log_mass(log_q + (1 - gate).log()).unsqueeze(-1)
        behind = (log_q + rest.log() - log_rest).exp() - (1 - share) * p * (
            rest.log() - log_rest + 1
        )
        slopes += torch.where(rest > 0, behind, 0.0)
    return slopes.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
