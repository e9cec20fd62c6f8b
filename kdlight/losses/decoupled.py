"""Decoupled KD: KL on the target, and KL among all other classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from kdlight.checks import check_range
from kdlight.losses.kl import kl, weigh
from kdlight.losses.labels import IGNORE_INDEX, check_labels
from kdlight.losses.log_space import tempered_pair, without_impossible
from kdlight.losses.topk import log_mass


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

    `forward_kl` is the case alpha = 1, beta = 1 - p_y: the more confident the teacher, the less the
    other classes count. A fixed beta keeps what the teacher knows about them in the loss. With two
    classes the second term is 0. The loss is 0 where the label is -100.

    Args:
        student: Logits of q.
        teacher: Logits of p, of the same shape; -inf on both sides is outside the vocabulary.
        labels: The target y of each position, already aligned, or -100.
        target_weight: The weight alpha of the target's term, not negative.
        non_target_weight: The weight beta of the term of the other classes, not negative.
        temperature: Divides both logits. The factor T^2 is not included.

    Returns:
        One value per position, in float32 or wider.

    Raises:
        ValueError: If the shapes do not fit, or a number is out of its range.
        TypeError: If the logits are not floating point, or the labels not integers.
        RuntimeError: If any other label is outside the vocabulary (a GPU raises a device-side
            assertion instead).

    Zhao, Cui, Song, Qiu, Liang, Decoupled Knowledge Distillation, 2022, eq. (7).

    >>> student, teacher = torch.zeros(1, 3), torch.tensor([[0.0, 1.0, 2.0]])
    >>> decoupled_kl(student, teacher, torch.tensor([2]))
    tensor([1.1166])
    """
    check_range("target_weight", target_weight, 0.0, math.inf, open_high=True)
    check_range("non_target_weight", non_target_weight, 0.0, math.inf, open_high=True)
    student, teacher = tempered_pair(student, teacher, temperature)
    check_labels(student, labels)
    ignored = labels == IGNORE_INDEX
    target = labels.long().masked_fill(ignored, 0).unsqueeze(-1)
    target_q, others_q = _decouple(student, target)
    target_p, others_p = _decouple(teacher, target)
    target_term = weigh(target_weight, kl(target_p, target_q))
    non_target_term = weigh(non_target_weight, kl(others_p, others_q))
    return (target_term + non_target_term).masked_fill(ignored, 0.0)


def _decouple(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of (p_y, 1 - p_y), and those of the other classes, renormalized.

    Shapes (..., V), (..., 1) -> (..., 2), (..., V). The odds are computed from the logits, as
    1 - p_y loses all its digits when p_y is close to 1.
    """
    logits = without_impossible(logits)
    others = logits.scatter(-1, target, -math.inf)
    top = others.detach().amax(-1, keepdim=True)
    no_others = top == -math.inf  # the label is the only possible token: avoid -inf - -inf
    top = top.masked_fill(no_others, 0.0)
    others = others.sub_(top)  # makes the total small, which keeps more of its digits
    total = log_mass(others).unsqueeze(-1)
    log_odds = logits.gather(-1, target) - top - total
    binary = logsigmoid(torch.cat((log_odds, -log_odds), -1))
    return binary, others - total.masked_fill(no_others, 0.0)
