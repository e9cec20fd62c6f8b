"""The alpha-beta divergence, and its limits where an exponent vanishes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from kdlight.losses.log_space import FORBIDDEN, log_probs, sum_terms, tempered_pair


class _AlphaBeta(Function):
    """The sum for all exponents but alpha = 0 with beta != 0, the mirror image of (beta, 0)."""

    generate_vmap_rule = True  # per-sample gradients with torch.func

    @staticmethod
    def forward(log_p: Tensor, log_q: Tensor, alpha: float, beta: float) -> Tensor:
        log_ratio = log_p - log_q
        if alpha == beta == 0:
            terms = log_ratio.square() / 2
        elif beta == 0:
            p = (alpha * log_p).exp_()
            terms = (alpha * log_ratio).sub_(1.0).mul_(p)
            terms = terms.nan_to_num_(nan=0.0, posinf=math.inf, neginf=-math.inf)
            terms = terms.add_((alpha * log_q).exp_()).div_(alpha**2)
        elif alpha + beta == 0:
            scaled = alpha * log_ratio
            terms = scaled.expm1().sub_(scaled).div_(alpha**2)
        else:
            terms = _mean_gap(log_p, log_q, alpha, beta)
        if alpha <= 0 or beta <= 0:
            # inf - inf on a token that one side alone forbids; no term is negative, so it is +inf.
            terms = terms.masked_fill(log_ratio.isinf() & terms.isnan(), math.inf)
        return sum_terms(terms, log_p[..., :1].exp(), log_q[..., :1].exp())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        log_p, log_q, ctx.alpha, ctx.beta = inputs
        ctx.save_for_backward(log_p, log_q)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        log_p, log_q = ctx.saved_tensors
        grad = grad.unsqueeze(-1)
        grad_p = grad_q = None
        if ctx.needs_input_grad[0]:
            grad_p = _slope(log_q, log_p, ctx.beta, ctx.alpha) * grad
        if ctx.needs_input_grad[1]:
            grad_q = _slope(log_p, log_q, ctx.alpha, ctx.beta) * grad
        return grad_p, grad_q, None, None


def _mean_gap(log_p: Tensor, log_q: Tensor, alpha: float, beta: float) -> Tensor:
    """(w x + (1 - w) y - x^w y^(1 - w)) / (alpha beta) with x = p^s, y = q^s, w = alpha / s.

    Measured from the larger of x and y, so it is 0 at a match and never overflows.
    """
    total = alpha + beta
    share = alpha / total
    log_x, log_y = total * log_p, total * log_q
    larger = torch.maximum(log_x, log_y).exp_()
    gap = log_x.sub_(log_y)
    # w where x is the smaller, 1 - w where y is
    weight = gap.sign().mul_(0.5 - share).add_(0.5)
    gap = gap.abs_().neg_()
    mean = gap.expm1().mul_(weight).sub_(weight.mul_(gap).expm1_())
    return mean.mul_(larger).div_(alpha * beta)


def _slope(log_p: Tensor, log_q: Tensor, alpha: float, beta: float) -> Tensor:
    """(q^(alpha + beta) - p^alpha q^beta) / alpha, and its limit q^beta log(q / p) at alpha = 0."""
    log_ratio = log_q - log_p
    if alpha == 0:
        log_ratio = torch.threshold_(log_ratio, -FORBIDDEN, 0.0)
        log_ratio = torch.threshold_(log_ratio.neg_(), -FORBIDDEN, 0.0).nan_to_num_(nan=0.0)
        return log_ratio.neg_().mul_(_scale(log_q, beta).exp())
    scaled = alpha * log_ratio
    own, shared = _scale(log_q, alpha + beta), alpha * log_p + _scale(log_q, beta)
    slope = scaled.neg().sign_().mul_(scaled.abs_().neg_().expm1_())
    slope = slope.mul_(torch.maximum(own, shared).exp_()).div_(alpha)
    return slope.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)


def _scale(log_x: Tensor, power: float) -> Tensor:
    """The log of x^power; x^0 is 1 for x = 0 too."""
    return power * log_x if power else torch.zeros_like(log_x)


def alpha_beta(
    student: Tensor,
    teacher: Tensor,
    *,
    alpha: float = 0.2,
    beta: float = 0.7,
    temperature: float | Tensor = 1.0,
) -> Tensor:
    r"""Alpha-beta divergence per token (ABKD), (..., V), (..., V) -> (...).

    .. math:: -\frac{1}{\alpha \beta} \sum_v \Big[ p_v^\alpha q_v^\beta
              - \frac{\alpha}{\alpha + \beta} p_v^{\alpha + \beta}
              - \frac{\beta}{\alpha + \beta} q_v^{\alpha + \beta} \Big]

    Two dials instead of one: alpha + beta says how much the likely tokens count, their ratio whose
    likely tokens those are. (1, 0) is `forward_kl` and (0, 1) `reverse_kl`; those, and (alpha, 0),
    (0, beta), (alpha, -alpha) and (0, 0), half the squared difference of the logs, are limits, and
    taken analytically. Finite for every pair of supports when alpha and beta are positive;
    otherwise it can be +inf where one side alone forbids (-inf) a token, and the infinite slopes
    are left out of the gradient.

    Args:
        student: Logits of q.
        teacher: Logits of p, of the same shape; -inf on both sides is outside the vocabulary.
        alpha: The exponent of p, any finite number.
        beta: The exponent of q, any finite number.
        temperature: Divides both logits. There is no factor T^2 inside.

    Raises:
        ValueError: If the shapes differ, or a number is out of its range.
        TypeError: If the logits are not floating point.

    Wang et al., ABKD: Pursuing a Proper Allocation of the Probability Mass in Knowledge
    Distillation via alpha-beta-Divergence, 2025. The limits: Cichocki, Cruces, Amari, Generalized
    Alpha-Beta Divergences and Their Application to Robust Nonnegative Matrix Factorization, 2011.

    >>> alpha_beta(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([0.1272])
    """
    for name, value in (("alpha", alpha), ("beta", beta)):
        if not -math.inf < value < math.inf:
            raise ValueError(f"{name} must be a finite number, got {value}")
    student, teacher = tempered_pair(student, teacher, temperature)
    log_q, log_p = log_probs(student), log_probs(teacher)
    if alpha == 0:  # D(0, beta)(p || q) = D(beta, 0)(q || p)
        return _AlphaBeta.apply(log_q, log_p, beta, alpha)
    return _AlphaBeta.apply(log_p, log_q, alpha, beta)
