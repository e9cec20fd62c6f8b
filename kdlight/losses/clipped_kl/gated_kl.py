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
    """KL of the gated part, four times (..., V) -> (...), differentiable in log q.

    A token of gate g counts with the fraction g of its probability on both sides. The rest of its
    probability belongs to the tail. Where only the student has a logit of -inf, at a token with a
    gate above 0, the value is +inf and the gradient is finite.

    Args:
        p: Probabilities of the teacher.
        log_p: Log-probabilities of the teacher.
        log_q: Log-probabilities of the student.
        gate: Gates in [0, 1].
        tail: How the tail counts, see `kdlight.losses.dac_kl`.
        residual: See `kdlight.losses.dac_kl`.
    """
    with torch.no_grad():
        weights = p * gate
        # two sums: one of them as the difference of the other from 1 would be rounding noise
        kept, left = weights.sum(-1), (p - weights).sum(-1)
    ratio = torch.where(weights != 0, log_p - log_q, 0.0)
    shared = (weights * ratio).sum(-1)
    if tail == "none":
        return shared
    if tail == "renorm":
        log_kept_q = log_mass(log_q + gate.log())
        return shared / kept - kept.log() + log_kept_q.masked_fill(log_kept_q == -torch.inf, 0.0)
    if tail == "renorm_teacher":
        gate_term = torch.where(weights != 0, weights * gate.log(), 0.0).sum(-1)
        return (shared + gate_term) / kept - kept.log()
    share = residual if tail == "residual" else 0.0
    target_kept, target_rest = kept + share * left, (1 - share) * left  # the target's two masses
    value = target_kept / kept * shared + target_kept * (target_kept / kept).log()
    log_rest_q = log_mass(log_q + (1 - gate).log())
    rest_term = target_rest * (target_rest.log() - log_rest_q)
    return value + torch.where(target_rest > 0, rest_term, 0.0)


@torch.no_grad()
def gate_grad(
    p: Tensor, log_p: Tensor, log_q: Tensor, gate: Tensor, *, tail: Tail, residual: float
) -> Tensor:
    """Gradient of `gated_kl` in the gate, four times (..., V) -> (..., V), always finite."""
    q = log_q.exp()
    ratio = log_p - log_q
    ratio = ratio.masked_fill(~(ratio.abs() < FORBIDDEN), 0.0)
    kept, shared = (gate * p).sum(-1, True), (gate * p * ratio).sum(-1, True)
    if tail == "none":
        return p * ratio
    if tail == "renorm":
        grad = p * (ratio - shared / kept - 1) / kept + q / (gate * q).sum(-1, True)
    elif tail == "renorm_teacher":
        log_ratio = ratio + gate.log() - kept.log()
        mean = torch.where(gate > 0, gate * p / kept * log_ratio, 0.0).sum(-1, True)
        grad = p / kept * (log_ratio - mean)
    else:
        share = residual if tail == "residual" else 0.0
        left = ((1 - gate) * p).sum(-1, True)
        target_kept, target_rest = kept + share * left, (1 - share) * left
        scale = target_kept / kept
        scale_term = (1 - share) * scale.log() + (1 - share - scale) * (shared + kept) / kept
        grad = (scale * ratio + scale_term).mul_(p)
        log_rest_q = log_mass(log_q + (1 - gate).log()).unsqueeze(-1)
        has_rest = target_rest > 0
        rest_ratio = torch.where(has_rest, target_rest.log() - log_rest_q, -torch.inf)
        rest_term = torch.where(has_rest, (1 - share) * (rest_ratio + 1), 0.0)
        grad.addcmul_(q, rest_ratio.exp()).sub_(p * rest_term)
    return grad.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
