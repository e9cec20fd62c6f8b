"""KL to a teacher whose probabilities are clamped between two thresholds and renormalized."""

from __future__ import annotations

import torch
from torch import Tensor


def clamped_kl(log_p: Tensor, log_q: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    r"""KL to the clamped teacher, (..., V), (..., V), (..., 1), (..., 1) -> (...), (..., V).

    .. math:: \operatorname{KL}(\hat p \| q), \qquad
              \hat p = \frac{\operatorname{clip}(p, l, u)}{\sum_v \operatorname{clip}(p_v, l, u)}

    A different reading of "clipping" than that of a gated KL, which leaves out what is outside the
    thresholds. The thresholds get their true gradient.

    Args:
        log_p: Log-probabilities of the teacher.
        log_q: Log-probabilities of the student.
        lower: Lower threshold of each position.
        upper: Upper threshold of each position.

    Returns:
        The values, and a mask of the tokens whose probabilities were not changed.
    """
    p = log_p.exp()
    possible = log_p != -torch.inf
    clipped = torch.where(possible, torch.maximum(torch.minimum(p, upper), lower), 0.0)
    target = clipped / clipped.sum(-1, keepdim=True)
    unchanged = possible & (p >= lower) & (p <= upper)
    constant = target.detach()
    log_ratio = torch.where(constant != 0, constant.log() - log_q, 0.0)
    values = (constant * log_ratio).sum(-1)
    if target.requires_grad:  # the target always sums to 1: the gradient of its own log cancels out
        grad = log_ratio.detach().masked_fill(log_ratio.isinf(), 0.0)
        values = values + ((target - constant) * grad).sum(-1)
    return values, unchanged
