"""Decoupled KD: what the teacher thinks of the target, and of the others among themselves."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from kdlight.losses.checks import check_range
from kdlight.losses.cross_entropy import IGNORED, check_labels
from kdlight.losses.kl import kl, weigh
from kdlight.losses.log_space import tempered_pair


def decoupled_kl(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    *,
    target_weight: float = 1.0,
    non_target_weight: float = 8.0,
    temperature: float | Tensor = 1.0,
) -> Tensor:
    r"""Decoupled KL (DKD) per token, (..., V), (..., V), (...) -> (...).

    .. math:: \alpha \operatorname{KL}\big((p_y, 1 - p_y) \| (q_y, 1 - q_y)\big)
              + \beta \operatorname{KL}(\hat p \| \hat q), \qquad
              \hat p_v = \frac{p_v}{1 - p_y} \quad (v \ne y)

    `forward_kl` is the case alpha = 1, beta = 1 - p_y: the surer the teacher, the less it says
    about the wrong classes. A beta of its own lets that be heard. With two classes the second half
    is vacuous and 0. A label of -100 gives 0.

    Args:
        student: Logits of q.
        teacher: Logits of p, of the same shape; -inf on both sides is outside the vocabulary.
        labels: The target y of each position, already aligned, or -100.
        target_weight: The weight alpha of the target's half, not negative.
        non_target_weight: The weight beta of the half among the others, not negative.
        temperature: Divides both logits. There is no factor T^2 inside.

    Raises:
        ValueError: If the shapes do not fit, or a number is out of its range.
        TypeError: If the logits are not floating point, or the labels not integers.
        RuntimeError: If another label is out of the vocabulary (a GPU asserts on the device).

    Zhao, Cui, Song, Qiu, Liang, Decoupled Knowledge Distillation, 2022, eq. (7).

    >>> student, teacher = torch.zeros(1, 3), torch.tensor([[0.0, 1.0, 2.0]])
    >>> decoupled_kl(student, teacher, torch.tensor([2]))
    tensor([1.1166])
    """
    check_range("target_weight", target_weight, 0.0, math.inf, open_high=True)
    check_range("non_target_weight", non_target_weight, 0.0, math.inf, open_high=True)
    student, teacher = tempered_pair(student, teacher, temperature)
    check_labels(student, labels)
    ignored = labels == IGNORED
    target = labels.long().masked_fill(ignored, 0).unsqueeze(-1)
    target_q, others_q = _decouple(student, target)
    target_p, others_p = _decouple(teacher, target)
    about_target = weigh(target_weight, kl(target_p, target_q))
    among_others = weigh(non_target_weight, kl(others_p, others_q))
    return (about_target + among_others).masked_fill(ignored, 0.0)


def _decouple(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Logs of (p_y, 1 - p_y) and of the others alone, (..., V), (..., 1) -> (..., 2), (..., V).

    The odds come from the logits: 1 - p_y would lose all its digits as p_y nears 1.
    """
    others = logits.scatter(-1, target, -math.inf)
    # With no others at all (V = 1) the lowest float keeps -inf - -inf out of what follows.
    lowest = torch.finfo(others.dtype).min
    top = others.detach().amax(-1, keepdim=True).clamp(min=lowest)
    others = others.sub_(top)  # the total is then a small number, which has more digits to give
    total = others.logsumexp(-1, keepdim=True).clamp(min=lowest)
    odds = logits.gather(-1, target) - top - total
    return logsigmoid(torch.cat((odds, -odds), -1)), others - total
