"""The alpha-beta divergence in closed form; see `kdlight.losses.value_and_grad`."""

from __future__ import annotations

import torch
from torch import Tensor

from kdlight.losses.value_and_grad import softmax


def alpha_beta(
    student: Tensor, teacher: Tensor, alpha: float, beta: float
) -> tuple[Tensor, Tensor]:
    """Value and gradient of `kdlight.losses.alpha_beta` for 0 < alpha <= beta.

    With s = alpha + beta and d = log p - log q, its terms are q^s / beta times
    (e^(s d) - 1) / s - (e^(alpha d) - 1) / alpha, and its gradient in log q is
    q^s (1 - e^(alpha d)) / alpha. Where one of these overflows, the value is not finite.
    """
    student, q, log_z_q = softmax(student)
    teacher, _, log_z_p = softmax(teacher)
    total = alpha + beta
    gap = teacher.sub_(student).add_((log_z_q - log_z_p).unsqueeze(-1))
    power = student.sub_(log_z_q.unsqueeze(-1)).mul_(total).exp_()
    growth = torch.expm1(gap * alpha).div_(alpha)
    terms = gap.mul_(total).expm1_().div_(total).sub_(growth).mul_(power)
    values = terms.sum(-1).div_(beta)
    slopes = growth.mul_(power).neg_()
    return values, slopes.addcmul_(q, slopes.sum(-1, keepdim=True), value=-1)
