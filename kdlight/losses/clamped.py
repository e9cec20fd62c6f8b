"""KL to a teacher whose probabilities are clipped from both sides."""

from __future__ import annotations

import torch
from torch import Tensor


def clamped_kl(log_p: Tensor, log_q: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    r"""The other reading of "clipping", (..., V), (..., V), (..., 1), (..., 1) -> (...), (..., V).

    .. math:: \operatorname{KL}(\hat p \| q), \qquad
              \hat p = \frac{\operatorname{clip}(p, l, u)}{\sum_v \operatorname{clip}(p_v, l, u)}

    Also says which probabilities were left as they are. The thresholds get their true gradient.
    """
    p = log_p.exp()
    possible = log_p != -torch.inf
    clipped = torch.where(possible, torch.maximum(torch.minimum(p, upper), lower), 0.0)
    target = clipped / clipped.sum(-1, keepdim=True)
    inside = possible & (p >= lower) & (p <= upper)
    held = target.detach()
    log_ratio = torch.where(held != 0, held.log() - log_q, 0.0)
    values = (held * log_ratio).sum(-1)
    if target.requires_grad:  # the target sums to 1 whatever moves: its own logs drop out
        slopes = log_ratio.detach().masked_fill(log_ratio.isinf(), 0.0)
        values = values + ((target - held) * slopes).sum(-1)
    return values, inside
