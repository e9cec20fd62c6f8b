"""Decoupled KL in closed form.

See `kdlight.losses.value_and_grad`. The target's logit is set aside, so that a softmax of the
others has all its digits however likely the target is.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from kdlight.losses.labels import IGNORE_INDEX, check_labels
from kdlight.losses.value_and_grad import dot, softmax

ASIDE = -1e4
"""A logit whose probability is 0 next to one of 0."""


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
    counts = labels != IGNORE_INDEX
    target = labels.long().masked_fill(~counts, 0).unsqueeze(-1)
    student, q, log_z_q, odds_q = _set_aside(student, target)
    teacher, p, log_z_p, odds_p = _set_aside(teacher, target)
    others = dot(p, teacher.sub_(student)).add_(log_z_q - log_z_p)
    target_p, target_q = odds_p.sigmoid(), odds_q.sigmoid()
    binary = target_p * (logsigmoid(odds_p) - logsigmoid(odds_q))
    binary += (-odds_p).sigmoid() * (logsigmoid(-odds_p) - logsigmoid(-odds_q))
    values = target_weight * binary + non_target_weight * others
    alpha = (target_weight * counts * (target_q - target_p)).unsqueeze(-1)
    beta = (non_target_weight * counts).unsqueeze(-1)
    grad = q.mul_(beta - alpha).addcmul_(p, beta.to(p.dtype), value=-1)
    return values.masked_fill(~counts, 0.0), grad.scatter_(-1, target, alpha)


def _set_aside(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The softmax of the other classes, and the log-odds (n,) of the target against them."""
    aside, others = logits.gather(-1, target), logits.scatter(-1, target, -torch.inf)
    highest = others.amax(-1, keepdim=True)
    others, probabilities, log_z = softmax(others.scatter_(-1, target, highest + ASIDE))
    return others, probabilities, log_z, (aside - highest).squeeze(-1) - log_z
