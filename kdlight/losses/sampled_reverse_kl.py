"""Estimators of the reverse KL from one sampled token per position."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from kdlight.checks import can_read, check_choice
from kdlight.losses.log_space import widen

Estimator: TypeAlias = Literal["k1", "k2", "k3", "score_function"]
ESTIMATORS = ("k1", "k2", "k3", "score_function")

ROUNDING = 1e-3
"""A log-probability up to this far above 0 is taken as rounded."""


def sampled_reverse_kl(
    student_log_probs: Tensor,
    teacher_log_probs: Tensor,
    *,
    estimator: Estimator = "k2",
    old_log_probs: Tensor | None = None,
) -> Tensor:
    r"""Estimate KL(q || p) from a token per position that was drawn from q, (...), (...) -> (...).

    .. math:: k_1 = -\log r, \qquad k_2 = \tfrac12 (\log r)^2, \qquad k_3 = r - 1 - \log r,
              \qquad r = p_y / q_y, \quad y \sim q

    Choose it where the logits of all V tokens are not known, only the log-probabilities of a
    sampled one; else `reverse_kl` gives the exact value with less noise. "Unbiased" means that the
    mean over draws is KL(q || p), or its gradient. A training step backpropagates the estimate, and
    what is then differentiated is not the mean over draws. The KL is that of a position, given the
    tokens before it; what a token changes at later positions is no part of it.

    ==================  ===============  ==================  =====================================
    estimator           value unbiased?  gradient unbiased?  mean of the gradient
    ==================  ===============  ==================  =====================================
    ``k1``              yes              **no**              0: it trains nothing
    ``k2``              no               yes                 that of KL(q || p)
    ``k3``              yes              **no**              that of KL(p || q), the forward KL
    ``score_function``  yes              yes                 that of KL(q || p)
    ==================  ===============  ==================  =====================================

    ``"k2"`` is never negative and its value is near KL(q || p) if both are close; ``"k3"`` is never
    negative either; the values of ``"k1"`` and ``"score_function"`` are -log r, of either sign.
    The gradient of ``"score_function"`` is :math:`(\log q_y - \log p_y) \nabla \log q_y` with the
    bracket held constant, which is also that of ``"k2"``. Use ``"k1"`` and ``"k3"`` to measure, and
    not to train. The table is about the gradient of the student. Of a teacher that is trained too,
    the gradient of ``"k2"`` is biased, and those of the others are not.

    Every line of the table needs tokens that were drawn from the student as it is now, at the
    temperature of the log-probabilities. For tokens of an older student, ``old_log_probs``
    multiplies each estimate by :math:`q_y / q^{old}_y`, without a gradient through the factor. The
    table then holds at each position, given the tokens before it, if the older student could draw
    every token that the current one can.

    Args:
        student_log_probs: Log-probabilities of the sampled tokens under the student, q.
        teacher_log_probs: Those under the teacher, p. Where either is -inf, the value is +inf and
            the gradient 0: the teacher forbids the token, or it was not drawn from the student.
        estimator: ``"k1"``, ``"k2"``, ``"k3"`` or ``"score_function"``.
        old_log_probs: Those under the student that drew the tokens; None if it is the current one.

    Returns:
        One value per position, in float32 or wider.

    Raises:
        ValueError: If the shapes differ, a log-probability is above 0, or the estimator is unknown.
        TypeError: If log-probabilities are not floating point.

    Schulman, Approximating KL Divergence, 2020 (the values). Williams, Simple Statistical
    Gradient-Following Algorithms for Connectionist Reinforcement Learning, 1992 (the gradient).

    >>> log_q = torch.tensor([0.5, 0.1]).log().requires_grad_()
    >>> values = sampled_reverse_kl(log_q, torch.tensor([0.25, 0.2]).log())
    >>> values.detach(), torch.autograd.grad(values.sum(), log_q)[0]
    (tensor([0.2402, 0.2402]), tensor([ 0.6931, -0.6931]))
    """
    check_choice("estimator", estimator, ESTIMATORS)
    log_q = checked_log_probs("student_log_probs", student_log_probs)
    log_p = checked_log_probs("teacher_log_probs", teacher_log_probs, like=log_q)
    # an infinite slope counts 0, and an infinite value is added without a gradient
    impossible = (log_q == -torch.inf) | (log_p == -torch.inf)
    infinite = torch.zeros_like(log_q + log_p).masked_fill(impossible, torch.inf)
    safe = log_q.masked_fill(impossible, 0.0), log_p.masked_fill(impossible, 0.0)
    values = _estimate(*safe, estimator) + infinite
    if old_log_probs is None:
        return values
    log_old = checked_log_probs("old_log_probs", old_log_probs, like=log_q)
    # the factor of a token that the student never draws is 0, and its value stays infinite
    factor = (log_q - log_old).exp().detach().masked_fill(impossible, 1.0)
    return values * factor


def _estimate(log_q: Tensor, log_p: Tensor, estimator: Estimator) -> Tensor:
    gap = log_q - log_p
    if estimator == "k1":
        return gap
    if estimator == "k2":
        return gap.square() / 2
    if estimator == "k3":
        return torch.expm1(-gap) + gap  # no digits are lost where p and q are close
    # the value of k1; log q has the gradient of the score function, log p its own
    return log_q.detach() - log_p + gap.detach() * (log_q - log_q.detach())


def checked_log_probs(name: str, value: Tensor, *, like: Tensor | None = None) -> Tensor:
    """Return log-probabilities in float32 or wider, with NaN in place of numbers above 0.

    Args:
        name: Of the argument, for the error.
        value: The log-probabilities.
        like: Others, whose shape they must have.

    Raises:
        ValueError: If the shapes differ; or if a number is above 0, and the tensor is on the CPU,
            where it can be read without waiting.
        TypeError: If they are not floating point.

    >>> checked_log_probs("student_log_probs", torch.tensor([0.5]))
    Traceback (most recent call last):
    ValueError: student_log_probs must be logarithms of probabilities, at most 0, got 0.5
    """
    value = widen(value)
    if like is not None and value.shape != like.shape:
        raise ValueError(
            f"student_log_probs and {name} must have one value per sampled token, got shapes"
            f" {tuple(like.shape)} and {tuple(value.shape)}"
        )
    wrong = value > ROUNDING
    if can_read(value):
        try:
            found = value.detach()[wrong]
        except RuntimeError:  # within torch.func.vmap, or without values: nothing to read
            found = value.new_empty(0)
        if found.numel():
            raise ValueError(
                f"{name} must be logarithms of probabilities, at most 0, got"
                f" {found.flatten()[0].item()}"
            )
    return value.masked_fill(wrong, torch.nan)
