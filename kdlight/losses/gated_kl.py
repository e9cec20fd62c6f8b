"""KL between two distributions of which only a gated part is compared token by token."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from kdlight.losses.log_space import FORBIDDEN
from kdlight.losses.topk import log_mass

Tail: TypeAlias = Literal["bucket", "renorm", "renorm_teacher", "none", "residual"]
TAILS = ("bucket", "renorm", "renorm_teacher", "none", "residual")


def gated_kl(
    p: Tensor, log_p: Tensor, log_q: Tensor, gate: Tensor, *, tail: Tail, residual: float
) -> Tensor:
    """KL of what a gate lets through, (..., V) four times -> (...), with a slope in log q.

    A token of gate g counts with g of its probability on both sides; the rest of it goes to the
    tail. Where the student alone forbids (-inf) what is kept, the value is +inf and the slope not.
    """
    with torch.no_grad():
        weights = p * gate
        # each by itself: the difference of the other from 1 would be noise
        kept, left = weights.sum(-1), (p - weights).sum(-1)
    ratio = torch.where(weights != 0, log_p - log_q, 0.0)
    shared = (weights * ratio).sum(-1)
    if tail == "none":
        return shared
    if tail == "renorm":
        log_others = log_mass(log_q + gate.log())
        return shared / kept - kept.log() + log_others.masked_fill(log_others == -torch.inf, 0.0)
    if tail == "renorm_teacher":
        inside = torch.where(weights != 0, weights * gate.log(), 0.0).sum(-1)
        return (shared + inside) / kept - kept.log()
    share = residual if tail == "residual" else 0.0
    whole, rest = kept + share * left, (1 - share) * left  # what the target puts on either side
    value = whole / kept * shared + whole * (whole / kept).log()
    log_rest = log_mass(log_q + (1 - gate).log())
    return value + torch.where(rest > 0, rest * (rest.log() - log_rest), 0.0)


@torch.no_grad()
def gate_slopes(
    p: Tensor, log_p: Tensor, log_q: Tensor, gate: Tensor, *, tail: Tail, residual: float
) -> Tensor:
    """The slopes of `gated_kl` in the gate, (..., V) four times -> (..., V), all finite."""
    q = log_q.exp()
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
        of_p = (1 - share) * scale.log() + (1 - share - scale) * (shared + kept) / kept
        slopes = (scale * ratio + of_p).mul_(p)
        log_rest = log_mass(log_q + (1 - gate).log()).unsqueeze(-1)
        over = torch.where(rest > 0, rest.log() - log_rest, -torch.inf)
        behind = torch.where(rest > 0, (1 - share) * (over + 1), 0.0)
        slopes.addcmul_(q, over.exp()).addcmul_(p, behind, value=-1)
    return slopes.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
