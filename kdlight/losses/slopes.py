"""Losses together with their slopes, in as few passes over the logits as they take.

Each function maps ``(n, V), (n, V) -> (n,), (n, V)``: values, and the gradient of each value in the
student's logits. They are a shorter way to what autograd makes of the losses in this room, and know
nothing of forbidden tokens: where a logit is at -inf the value is not finite, and the loss itself
has to be asked.
"""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-38
"""Below any mixture whose logarithm matters."""

WIDE = 8192
"""Rows from here on are worth a call each."""


def forward_kl(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """`kdlight.losses.forward_kl`: the slope is q - p."""
    q, log_z_q = _softmax(student)
    p, log_z_p = _softmax(teacher)
    values = dot(p, teacher - student).add_(log_z_q - log_z_p)
    return values, q.sub_(p)


def reverse_kl(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """`kdlight.losses.reverse_kl`: the slope is q (log q - log p - KL)."""
    q, log_z_q = _softmax(student)
    _, log_z_p = _softmax(teacher)
    gap = student - teacher
    mean = dot(q, gap)
    return mean - (log_z_q - log_z_p), gap.sub_(mean.unsqueeze(-1)).mul_(q)


def jensen_shannon(student: Tensor, teacher: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """`kdlight.losses.jensen_shannon` for 0 < beta < 1.

    The slope is (1 - beta) q (log q/m - KL(q || m)).
    """
    q, log_z_q = _softmax(student)
    p, log_z_p = _softmax(teacher)
    log_m = torch.lerp(q, p, beta).clamp_min_(TINY).log_()
    above = student - log_m
    mean = dot(q, above)
    of_student, of_teacher = mean - log_z_q, dot(p, log_m.sub_(teacher).neg_()) - log_z_p
    slopes = above.sub_(mean.unsqueeze(-1)).mul_(q).mul_(1.0 - beta)
    return beta * of_teacher + (1.0 - beta) * of_student, slopes


def total_variation(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """`kdlight.losses.total_variation`: the slope is q (s - <q, s>) / 2, s the sign of q - p."""
    q, gap = student.softmax(-1), teacher.softmax(-1)
    sign = torch.sub(q, gap, out=gap).sign()
    values = dot(sign, gap) / 2
    return values, sign.sub_(dot(q, sign).unsqueeze(-1)).mul_(q).mul_(0.5)


def taid(student: Tensor, teacher: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """`kdlight.losses.taid`: the slope is that of `forward_kl` to the target."""
    return forward_kl(student, torch.lerp(student, teacher, t))


def cross_entropy(student: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """`kdlight.losses.cross_entropy`: the slope is q - 1 at the label. No label is -100 here."""
    labels = labels.unsqueeze(-1)
    q, log_z = _softmax(student)
    values = log_z - student.gather(-1, labels).squeeze(-1)
    return values, q.scatter_add_(-1, labels, q.new_full((1, 1), -1.0).expand_as(labels))


def _softmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities, and the logarithm of what they were divided by, (n, V) -> (n, V), (n,).

    One exponential an entry: the likeliest gives the logarithm back without a pass of its own. It
    is also more exact than two logarithms of probabilities and their difference.
    """
    probabilities = logits.softmax(-1)
    return probabilities, logits.amax(-1).sub_(probabilities.amax(-1).log_())


def dot(first: Tensor, second: Tensor) -> Tensor:
    """Row-wise inner products, (n, V), (n, V) -> (n,).

    ``(first * second).sum(-1)`` makes a temporary, and a batched product adds up one term after the
    other; on a CPU a call for each wide row is accurate and runs at the speed of memory.
    """
    wide = first.device.type == "cpu" and first.shape[-1] >= WIDE and len(first) > 0
    if not wide or torch.compiler.is_compiling():
        return (first * second).sum(-1)
    return torch.stack(list(map(torch.dot, first.unbind(), second.unbind())))
