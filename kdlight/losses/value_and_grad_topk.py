"""KL divergences over some tokens and a bucket of all others, in closed form.

See `kdlight.losses.value_and_grad`. There are k + 1 outcomes: k tokens, and the bucket. The
gradients in the logits of the bucket's tokens are shares of that of the bucket, in proportion to q.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kdlight.losses.topk import log_rest
from kdlight.losses.value_and_grad import softmax


def topk_forward_kl(
    student: Tensor, teacher_ids: Tensor, teacher_log_probs: Tensor
) -> tuple[Tensor, Tensor]:
    """Value and gradient of `kdlight.losses.topk_forward_kl` with the bucket, and no unused id.

    The gradient is q - p at the k tokens, and q (1 - r / s) at all others.
    """
    student, q, log_z = softmax(student)
    log_r = log_rest(teacher_log_probs).unsqueeze(-1)
    log_p = torch.cat([teacher_log_probs, log_r], -1).log_softmax(-1)
    p = log_p.exp()
    kept = q.gather(-1, teacher_ids)
    s = q.scatter_(-1, teacher_ids, 0.0).sum(-1, keepdim=True)
    log_q = student.gather(-1, teacher_ids) - log_z.unsqueeze(-1)
    values = (p * (log_p - torch.cat([log_q, s.log()], -1))).sum(-1)
    grad = q.mul_(1 - p[:, -1:] / s)
    return values, grad.scatter_(-1, teacher_ids, kept - p[:, :-1])


def topk_reverse_kl(student: Tensor, teacher: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient of `kdlight.losses.topk_reverse_kl` to a teacher with all its logits.

    With L the value, the gradient is q (log q/p - L) at the k tokens, and q (log s/r - L) at all
    others.
    """
    student, q, log_z_q = softmax(student)
    teacher, p, log_z_p = softmax(teacher)
    shift = (log_z_q - log_z_p).unsqueeze(-1)
    log_ratio = student.gather(-1, ids) - teacher.gather(-1, ids) - shift
    kept = q.gather(-1, ids)
    s, r = (x.scatter_(-1, ids, 0.0).sum(-1, keepdim=True) for x in (q, p))
    log_ratio = torch.cat([log_ratio, (s / r).log()], -1)
    values = (torch.cat([kept, s], -1) * log_ratio).sum(-1, keepdim=True)
    slopes = log_ratio - values
    grad = q.mul_(slopes[:, -1:])
    return values.squeeze(-1), grad.scatter_(-1, ids, kept * slopes[:, :-1])
