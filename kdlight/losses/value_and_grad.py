"""Losses in closed form: each value together with its gradient in the student's logits.

Each function maps logits ``(n, V), (n, V)`` to values ``(n,)`` and gradients ``(n, V)``, in few
passes over the logits. The results are those of autograd on the function of the same name in
`kdlight.losses`. Impossible tokens, see `has_impossible_tokens`, are not supported: such rows must
be computed by the function in `kdlight.losses` instead, which follows the rule there. The highest
logit of each row becomes 0 first: far from 0, sums and differences of logits would be rounded to
fewer digits than they have.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kdlight.losses.log_space import FORBIDDEN, shifted

TINY = 1e-38
"""Lower bound of a mixture, so that its logarithm is finite."""

ASIDE = -1e4
"""A logit whose probability is 0 next to one of 0."""

WIDE = 8192
"""Row length from which one call per row is faster."""


def forward_kl(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient of `kdlight.losses.forward_kl`: the gradient is q - p."""
    student, q, log_z_q = softmax(student)
    teacher, p, log_z_p = softmax(teacher)
    values = sum_of_products_(teacher.sub_(student), p).add_(log_z_q - log_z_p)
    return values, q.sub_(p)


def reverse_kl(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient of `kdlight.losses.reverse_kl`.

    The gradient is q (log q - log p - KL(q || p)).
    """
    student, q, log_z_q = softmax(student)
    teacher, _, log_z_p = softmax(teacher)
    gap = student.sub_(teacher)
    mean = dot(q, gap)
    return mean - (log_z_q - log_z_p), gap.sub_(mean.unsqueeze(-1)).mul_(q)


def jensen_shannon(student: Tensor, teacher: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Value and gradient of `kdlight.losses.jensen_shannon` for 0 < beta < 1.

    The gradient is (1 - beta) q (log q/m - KL(q || m)).
    """
    student, q, log_z_q = softmax(student)
    teacher, p, log_z_p = softmax(teacher)
    log_m = _interpolate(q, p, beta).clamp_min_(TINY).log_()
    log_ratio = student.sub_(log_m)  # log q/m, up to a constant per row
    mean = dot(q, log_ratio)
    from_student = mean - log_z_q
    from_teacher = sum_of_products_(teacher.sub_(log_m), p) - log_z_p
    grad = log_ratio.sub_(mean.unsqueeze(-1)).mul_(q).mul_(1.0 - beta)
    return beta * from_teacher + (1.0 - beta) * from_student, grad


def total_variation(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient of `kdlight.losses.total_variation`.

    The gradient is q (s - <q, s>) / 2, where s is the sign of q - p.
    """
    q, gap = student.softmax(-1), teacher.softmax(-1)
    sign = torch.sub(q, gap, out=gap).sign()
    values = dot(sign, gap) / 2
    return values, sign.sub_(dot(q, sign).unsqueeze(-1)).mul_(q).mul_(0.5)


def taid(student: Tensor, teacher: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """Value and gradient of `kdlight.losses.taid`: those of `forward_kl` to the target."""
    student, q, log_z_q = softmax(student)
    target, p, log_z_p = softmax(_interpolate(student, shifted(teacher), t))
    values = sum_of_products_(target.sub_(student), p).add_(log_z_q - log_z_p)
    return values, q.sub_(p)


def cross_entropy(student: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient of `kdlight.losses.cross_entropy`, (n, V), (n,) -> (n,), (n, V).

    The gradient is q, minus 1 at the label. Labels of -100 are not supported.
    """
    labels = labels.unsqueeze(-1)
    student, q, log_z = softmax(student)
    values = log_z - student.gather(-1, labels).squeeze(-1)
    return values, q.scatter_add_(-1, labels, q.new_full((1, 1), -1.0).expand_as(labels))


def _interpolate(start: Tensor, end: Tensor, weight: float) -> Tensor:
    # torch.compile would make the weight of a lerp a constant, and compile again for each other one
    return (end * weight).add_(start * (1.0 - weight))


def has_impossible_tokens(*logits: Tensor | None) -> Tensor:
    """Return whether any entry is -inf or `kdlight.losses.log_space.FORBIDDEN` below 0, as a bool.

    >>> has_impossible_tokens(torch.tensor([0.0, torch.finfo(torch.float32).min]), None)
    tensor(True)
    """
    found = torch.tensor(False)
    for each in logits:
        if each is not None and each.numel():
            found = found.to(each.device) | (each.amin() <= -FORBIDDEN)
    return found


def softmax(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits with a maximum of 0, probabilities, log of their normalizer: (n, V), (n, V), (n,).

    The first is a new tensor. This takes one exponential per entry: the logarithm is that of the
    highest probability, whose logit is 0, without another pass. It is also more exact than the
    difference of the logarithms of two probabilities.
    """
    logits = shifted(logits)
    probabilities = logits.softmax(-1)
    return logits, probabilities, probabilities.amax(-1).log_().neg_()


class Divided(NamedTuple):
    """Logits, divided into those of some tokens and those of all others.

    Attributes:
        others: Logits of all others, of which the highest is 0, with `ASIDE` at the tokens, (n, V).
        probabilities: Their softmax, 0 at the tokens, (n, V).
        log_z: Log of its normalizer, (n,).
        outcomes: Logits of k + 1 outcomes, the tokens and all others as one, (n, k + 1).
    """

    others: Tensor
    probabilities: Tensor
    log_z: Tensor
    outcomes: Tensor


def set_aside(logits: Tensor, ids: Tensor) -> Divided:
    """Set some tokens aside, (n, V), (n, k).

    The softmax of the others has all its digits however likely the tokens are, and the logit of the
    others together is finite where their probability underflows. Some token must be left.

    >>> set_aside(torch.tensor([[3.0, 1.0, 1.0]]), torch.tensor([[0]])).outcomes
    tensor([[ 0.0000, -1.3069]])
    """
    kept, others = logits.gather(-1, ids), logits.scatter(-1, ids, -torch.inf)
    highest = others.amax(-1, keepdim=True)
    others = others.sub_(highest).scatter_(-1, ids, ASIDE)
    probabilities = others.softmax(-1)
    log_z = probabilities.amax(-1).log_().neg_()
    top = torch.maximum(highest, kept.amax(-1, keepdim=True))
    outcomes = torch.cat([kept - top, highest - top + log_z.unsqueeze(-1)], -1)
    return Divided(others, probabilities, log_z, outcomes)


def sum_of_products_(first: Tensor, second: Tensor) -> Tensor:
    """Compute `dot`, and leave the products in ``first``: faster on several threads.

    >>> sum_of_products_(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]]))
    tensor([11.])
    """
    return first.mul_(second).sum(-1)


def dot(first: Tensor, second: Tensor) -> Tensor:
    """Row-wise inner products, (n, V), (n, V) -> (n,).

    ``(first * second).sum(-1)`` allocates a temporary, and a batched product adds up one term after
    the other. On a CPU, one call per wide row is accurate and limited by memory bandwidth only.
    """
    wide = first.device.type == "cpu" and first.shape[-1] >= WIDE and len(first) > 0
    if not wide or torch.compiler.is_compiling():
        return (first * second).sum(-1)
    return torch.stack(list(map(torch.dot, first.unbind(), second.unbind())))
