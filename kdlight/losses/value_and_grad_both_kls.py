"""Losses of forward and reverse KL together, in closed form.

See `kdlight.losses.value_and_grad`. The functions share what both divergences need: with the gap
log q - log p, up to a constant per row, forward KL has the gradient q - p, and reverse KL has
q (gap - <q, gap>).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kdlight.losses.adaptive import shares
from kdlight.losses.head_of_mass import head_of_mass
from kdlight.losses.value_and_grad import TINY, dot, softmax


def symmetric_kl(student: Tensor, teacher: Tensor, forward_weight: float) -> tuple[Tensor, Tensor]:
    """Value and gradient of `kdlight.losses.symmetric_kl`."""
    both = _compared(student, teacher)
    forward = torch.full_like(both[-1], forward_weight)
    return _weighted(*both, forward, 1.0 - forward)


def adaptive_kl(student: Tensor, teacher: Tensor, head_mass: float) -> tuple[Tensor, Tensor]:
    """Value and gradient of `kdlight.losses.adaptive_kl`, whose weights are constants."""
    p, q, gap, shift = _compared(student, teacher)
    sizes = (q - p).abs_()
    head = dot(sizes, head_of_mass(p, head_mass))
    return _weighted(p, q, gap, shift, *shares(head, sizes.sum(-1)))


def balanced_kl(
    student: Tensor, teacher: Tensor, balance: Callable[[Tensor], tuple[Tensor, Tensor]], by: str
) -> tuple[Tensor, Tensor]:
    """Value and gradient of `kdlight.losses.balanced_kl`, whose weights are constants.

    Args:
        student: Logits of q.
        teacher: Logits of p.
        balance: The weights of both KLs, of the gap in confidence.
        by: The measure of confidence, ``"entropy"`` or ``"max_prob"``.
    """
    student, q, log_z_q = softmax(student)
    teacher, p, log_z_p = softmax(teacher)
    if by == "max_prob":
        confidence = q.amax(-1) - p.amax(-1)
    else:
        confidence = (log_z_p - dot(p, teacher)) - (log_z_q - dot(q, student))
    forward_weight, reverse_weight = balance(confidence)
    gap, shift = student.sub_(teacher), log_z_q - log_z_p
    return _weighted(p, q, gap, shift, forward_weight, reverse_weight)


def todi(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient of `kdlight.losses.todi`, whose weights are constants.

    With a = p / (p + q), the gradient in log q is (1 - a) q (1 + log q - log p) - a p.
    """
    p, q, gap, shift = _compared(student, teacher)
    values = dot(q, gap) - dot(p, gap)
    a = p / torch.add(p, q).clamp_min_(TINY)
    reverse = gap.add_((1.0 - shift).unsqueeze(-1)).mul_(q)
    slopes = reverse.sub_(a.mul_(p.add_(reverse)))
    return values, slopes.addcmul_(q, slopes.sum(-1, keepdim=True), value=-1)


def _weighted(
    p: Tensor, q: Tensor, gap: Tensor, shift: Tensor, forward: Tensor, reverse: Tensor
) -> tuple[Tensor, Tensor]:
    """The sum of both KLs with weights (n,) each, and its gradient, which overwrites the gap."""
    mean = dot(q, gap)
    values = forward * (shift - dot(p, gap)) + reverse * (mean - shift)
    forward, reverse = forward.unsqueeze(-1), reverse.unsqueeze(-1)
    grad = gap.sub_(mean.unsqueeze(-1)).mul_(reverse).add_(forward).mul_(q)
    return values, grad.addcmul_(p, forward, value=-1)


def _compared(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return p, q, the gap, and what it exceeds log q - log p by, (n, V) three times and (n,)."""
    student, q, log_z_q = softmax(student)
    teacher, p, log_z_p = softmax(teacher)
    return p, q, student.sub_(teacher), log_z_q - log_z_p
