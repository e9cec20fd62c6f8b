"""KL divergences over some tokens and a bucket of all others, in closed form.

See `kdlight.losses.value_and_grad`. There are k + 1 outcomes: k tokens, and the bucket. The
gradients in the logits of the bucket's tokens are shares of that of the bucket, in proportion to q.
These shares are a softmax of their own: where s underflows, q/s has no digits, and r/s overflows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kdlight.losses.topk import log_rest
from kdlight.losses.value_and_grad import set_aside


def topk_forward_kl(
    student: Tensor, teacher_ids: Tensor, teacher_log_probs: Tensor
) -> tuple[Tensor, Tensor]:
    """Value and gradient of `kdlight.losses.topk_forward_kl` with the bucket, and no unused id.

    The gradient is q - p at the k tokens, and q/s (s - r) at all others.
    """
    _, shares, _, outcomes = set_aside(student, teacher_ids)
    log_r = log_rest(teacher_log_probs).unsqueeze(-1)
    log_p = torch.cat([teacher_log_probs, log_r], -1).log_softmax(-1)
    log_q = outcomes.log_softmax(-1)
    p = log_p.exp()
    return (p * (log_p - log_q)).sum(-1), _spread(shares, teacher_ids, log_q.exp().sub_(p))


def topk_reverse_kl(student: Tensor, teacher: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient of `kdlight.losses.topk_reverse_kl` to a teacher with all its logits.

    With L the value, the gradient is q (log q/p - L) at the k tokens, and q/s (s (log s/r - L)) at
    all others.
    """
    _, shares, _, outcomes = set_aside(student, ids)
    log_q, log_p = (x.log_softmax(-1) for x in (outcomes, set_aside(teacher, ids).outcomes))
    q, log_ratio = log_q.exp(), log_q - log_p
    values = (q * log_ratio).sum(-1, keepdim=True)
    return values.squeeze(-1), _spread(shares, ids, log_ratio.sub_(values).mul_(q))


def _spread(shares: Tensor, ids: Tensor, slopes: Tensor) -> Tensor:
    """Gradients in logits of gradients in outcomes, (n, V), (n, k), (n, k + 1) -> (n, V)."""
    return shares.mul_(slopes[:, -1:]).scatter_(-1, ids, slopes[:, :-1])
