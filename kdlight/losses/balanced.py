"""BD-KD: forward and reverse KL, weighted by which of the two networks is more confident."""

from __future__ import annotations

from math import inf
from typing import Literal

import torch
from torch import Tensor

from kdlight.checks import check_choice, check_range
from kdlight.losses.kl import both_kls, weigh
from kdlight.losses.log_space import FORBIDDEN, log_probs, probs, tempered_pair


def balanced_kl(
    student: Tensor,
    teacher: Tensor,
    *,
    high: float = 2.0,
    low: float = 1.0,
    temperature: float | Tensor = 1.0,
    weighting: Literal["hard", "soft"] = "hard",
    kappa: float = 4.0,
    normalise: bool = False,
    detach_weights: bool = True,
    entropy_temperature: float | None = None,
    confidence: Literal["entropy", "max_prob"] = "entropy",
    tie_tol: float = 0.0,
) -> Tensor:
    r"""Balanced KL (BD-KD) per token, (..., V), (..., V) -> (...).

    .. math:: w_F \operatorname{KL}(p \| q) + w_R \operatorname{KL}(q \| p), \qquad
              (w_F, w_R) = w(H(p) - H(q))

    Forward KL flattens a student and reverse KL sharpens it. Where the student is more confident
    than its teacher, the forward KL is weighted with ``high`` and the reverse KL with ``low``;
    where it is less confident, the other way round; at a tie both are weighted with ``low``. Choose
    it where a calibrated student is wanted. A ``high`` below ``low`` reverses the rule, for
    comparison.

    Where one side alone has a logit of -inf, the rule of `kdlight.losses` holds; the weight of an
    infinite term takes no gradient.

    Published are: both directions of KL, and weights per sample from the difference of the
    entropies. The rule of ``"hard"`` is that of a third party's code (which uses 3 and 1), as the
    text of the paper was not at hand. The defaults 2 and 1, and all other options, are choices made
    here. In that code the forward term is a cross-entropy; here it is a KL, which is 0 at a match.

    Args:
        student: Logits of q.
        teacher: Logits of p, of the same shape; -inf on both sides is outside the vocabulary.
        high: The weight of the term that closes the gap in confidence, not negative.
        low: The weight of the other term, not negative.
        temperature: Divides both logits. The factor T^2 is not included.
        weighting: ``"hard"``, or ``"soft"`` for weights that change smoothly with the gap, see
            `balance`.
        kappa: Slope of the soft weights, not negative.
        normalise: Divide the weights by their sum.
        detach_weights: False gives soft weights a gradient. The student can then lower its loss by
            changing its confidence, which is not part of the teacher's signal.
        entropy_temperature: Temperature at which confidences are compared; None for
            ``temperature``.
        confidence: Measure of confidence: the entropy, or the highest probability.
        tie_tol: A gap up to this is a tie for the hard rule.

    Returns:
        One value per position, in float32 or wider.

    Raises:
        ValueError: If the shapes differ, or an argument is out of its range.
        TypeError: If the logits are not floating point.

    Amara et al., BD-KD: Balancing the Divergences for Online Knowledge Distillation, 2022.

    >>> confident, less_confident = torch.tensor([0.0, 2.0]), torch.tensor([0.0, 1.0])
    >>> balanced_kl(confident, less_confident)  # 2 KL(p || q) + KL(q || p)
    tensor(0.2323)
    """
    options = {"high": high, "low": low, "weighting": weighting, "kappa": kappa}
    check_balance(**options, confidence=confidence, tie_tol=tie_tol)
    z_s, z_t = tempered_pair(student, teacher, temperature)
    with torch.set_grad_enabled(torch.is_grad_enabled() and not detach_weights):
        at = temperature if entropy_temperature is None else entropy_temperature
        gap = confidence_gap(student, teacher, temperature=at, confidence=confidence)
        forward, reverse = balance(gap, **options, normalise=normalise, tie_tol=tie_tol)
    forward_kl, reverse_kl = both_kls(z_s, z_t)
    return _weigh(forward, forward_kl) + _weigh(reverse, reverse_kl)


def confidence_gap(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    confidence: Literal["entropy", "max_prob"] = "entropy",
) -> Tensor:
    r"""Confidence of the student minus that of the teacher, (..., V), (..., V) -> (...).

    .. math:: H(p) - H(q) \quad\text{or}\quad \max_v q_v - \max_v p_v

    >>> confidence_gap(torch.tensor([0.0, 9.0]), torch.tensor([0.0, 0.0]), confidence="max_prob")
    tensor(0.4999)
    """
    student, teacher = tempered_pair(student, teacher, temperature)
    if confidence == "max_prob":
        return probs(student).amax(-1) - probs(teacher).amax(-1)
    return _entropy(teacher) - _entropy(student)


def balance(
    gap: Tensor,
    *,
    high: float = 2.0,
    low: float = 1.0,
    weighting: Literal["hard", "soft"] = "hard",
    kappa: float = 4.0,
    normalise: bool = False,
    tie_tol: float = 0.0,
) -> tuple[Tensor, Tensor]:
    r"""Compute the weights of forward and reverse KL, (...) -> (...), (...).

    The hard rule gives ``high`` to one of them by the sign of the gap. The soft rule interpolates,
    so that the weights do not jump with the rounding noise of two small entropies:

    .. math:: w_F = low + (high - low) \, \sigma(\kappa \, gap), \qquad
              w_R = low + (high - low) \, \sigma(-\kappa \, gap)

    >>> balance(torch.tensor([-1.0, 0.0, 1.0]))
    (tensor([1., 1., 2.]), tensor([2., 1., 1.]))
    """
    if weighting == "soft":
        shares = (kappa * gap).sigmoid(), (-kappa * gap).sigmoid()
    else:
        shares = (gap > tie_tol).to(gap.dtype), (gap < -tie_tol).to(gap.dtype)
    forward, reverse = (low + (high - low) * share for share in shares)
    if not normalise:
        return forward, reverse
    total = forward + reverse
    zero = total == 0  # a tie with low = 0: weights of 1/2, as for any other low
    total = total.masked_fill(zero, 1.0)
    return (forward / total).masked_fill(zero, 0.5), (reverse / total).masked_fill(zero, 0.5)


def check_balance(
    *, high: float, low: float, weighting: str, kappa: float, confidence: str, tie_tol: float
) -> None:
    """Raise an error for hyper-parameters of `balanced_kl` that are out of range.

    Raises:
        ValueError: If one is; the message names it, the range and the value.
    """
    for name, value in (("high", high), ("low", low), ("kappa", kappa), ("tie_tol", tie_tol)):
        check_range(name, value, 0.0, inf, open_high=True)
    check_choice("weighting", weighting, ("hard", "soft"))
    check_choice("confidence", confidence, ("entropy", "max_prob"))


def _weigh(weight: Tensor, value: Tensor) -> Tensor:
    # where a KL is infinite, so is the gradient of its weight, which no step could follow
    return weigh(torch.where(value > FORBIDDEN, weight.detach(), weight), value)


def _entropy(logits: Tensor) -> Tensor:
    p = probs(logits)
    # 0 * inf is NaN in value and gradient: replace log 0 before the product
    return -(p * log_probs(logits).masked_fill(p == 0, 0.0)).sum(-1)
