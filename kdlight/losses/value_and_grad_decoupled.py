"""Decoupled KL in closed form.

See `kdlight.losses.value_and_grad`. The target's logit is set aside, so that a softmax of the
others has all its digits however likely the target is.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from kdlight.losses.labels import IGNORE_INDEX, check_labels
from kdlight.losses.value_and_grad import Divided, dot, set_aside


def decoupled_kl(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    target_weight: float,
    non_target_weight: float,
) -> tuple[Tensor, Tensor]:
    """Value and gradient of `kdlight.losses.decoupled_kl`.

    With probabilities p and q of the target, and those of the other classes among each other, it is
    alpha (q - p) for the target, and beta (q_v - p_v) - alpha (q - p) q_v for the others.
    """
    check_labels(student, labels)
    ignored = labels == IGNORE_INDEX
    target = labels.long().masked_fill(ignored, 0).unsqueeze(-1)
    of_q, of_p = set_aside(student, target), set_aside(teacher, target)
    p, q = of_p.probabilities, of_q.probabilities
    others = dot(p, of_p.others.sub_(of_q.others)).add_(of_q.log_z - of_p.log_z)
    odds_q, odds_p = _odds(of_q), _odds(of_p)
    target_p, target_q = odds_p.sigmoid(), odds_q.sigmoid()
    binary = target_p * (logsigmoid(odds_p) - logsigmoid(odds_q))
    binary += (-odds_p).sigmoid() * (logsigmoid(-odds_p) - logsigmoid(-odds_q))
    values = target_weight * binary + non_target_weight * others
    alpha = (target_weight * (target_q - target_p)).masked_fill(ignored, 0.0).unsqueeze(-1)
    beta = torch.full_like(alpha, non_target_weight).masked_fill_(ignored.unsqueeze(-1), 0.0)
    grad = q.mul_(beta - alpha).addcmul_(p, beta, value=-1)
    return values.masked_fill(ignored, 0.0), grad.scatter_(-1, target, alpha)


def _odds(divided: Divided) -> Tensor:
    """Log-odds (n,) of the target against the other classes."""
    target, others = divided.outcomes.unbind(-1)
    return target - others
