"""The alpha-beta divergence, and its limits where an exponent vanishes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from kdlight.checks import check_finite
from kdlight.losses.log_space import FORBIDDEN, log_probs, sum_terms, tempered_pair


class _AlphaBeta(Function):
    """The divergence, for alpha = 0 or alpha <= beta, and beta = 0 only if alpha is 0, too.

    With s = alpha + beta and d = log p - log q its terms are
    ((p^s - q^s) / s - q^s (e^(alpha d) - 1) / alpha) / beta. This form divides by nothing that may
    vanish: where s or alpha is 0, the quotient by it is replaced by its limit, d (times q^s).
    """

    generate_vmap_rule = True  # per-sample gradients with torch.func

    @staticmethod
    def forward(log_p: Tensor, log_q: Tensor, alpha: float, beta: float) -> Tensor:
        probabilities = log_p[..., :1].exp(), log_q[..., :1].exp()
        if beta == 0:
            return sum_terms((log_p - log_q).square(), *probabilities) / 2
        growth = _growth_term(log_p, log_q, alpha, beta).nan_to_num_(0.0, math.inf, -math.inf)
        terms = _power_gap(log_p, log_q, alpha + beta).sub_(growth)
        if alpha <= 0:
            # inf - inf where one side alone has a logit of -inf. No term is negative: it is +inf.
            one_sided = (log_p - log_q).isinf()
            terms = terms.masked_fill(one_sided & terms.isnan(), math.inf * beta)
        return sum_terms(terms, *probabilities) / beta

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        log_p, log_q, ctx.alpha, ctx.beta = inputs
        ctx.save_for_backward(log_p, log_q)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        log_p, log_q = ctx.saved_tensors
        alpha, beta, grad = ctx.alpha, ctx.beta, grad.unsqueeze(-1)
        grad_p = grad_q = None
        growth = _growth_term(log_p, log_q, alpha, beta, FORBIDDEN).nan_to_num_(0.0, 0.0, 0.0)
        if ctx.needs_input_grad[0]:
            local, s = growth, alpha + beta
            if s != 0:
                gap = _power_gap(log_p, log_q, s)
                local = (s * gap).sub_(growth, alpha=alpha).div_(beta).nan_to_num_(0.0, 0.0, 0.0)
            grad_p = local * grad
        if ctx.needs_input_grad[1]:
            grad_q = growth * -grad
        return grad_p, grad_q, None, None


def _power_gap(log_p: Tensor, log_q: Tensor, power: float) -> Tensor:
    """(p^s - q^s) / s, or log p - log q at s = 0, in a new tensor."""
    if power == 0:
        return log_p - log_q
    return ((power * log_p).exp_() - (power * log_q).exp_()).div_(power)


def _growth_term(
    log_p: Tensor, log_q: Tensor, alpha: float, beta: float, bound: float = math.inf
) -> Tensor:
    """q^s (e^(alpha d) - 1) / alpha, or q^s d at alpha = 0, where d beyond ``bound`` counts as 0.

    If e^(alpha d) overflows, q^s is 0, as alpha is the smaller exponent. The product is then NaN
    and stands for 0.
    """
    log_ratio = log_p - log_q
    if alpha != 0:
        growth = (alpha * log_ratio).expm1_()
    else:
        growth = torch.where(log_ratio.abs() > bound, 0.0, log_ratio)
    scale = alpha if alpha != 0 else 1.0
    return growth / scale if alpha + beta == 0 else ((alpha + beta) * log_q).exp_() * growth / scale


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

    It has two hyper-parameters: alpha + beta sets how much the likely tokens count, and their ratio
    whether those are likely under the teacher or under the student. (1, 0) is `forward_kl` and
    (0, 1) is `reverse_kl`. These two, (alpha, 0), (0, beta), (alpha, -alpha), and (0, 0), which is
    half the squared difference of the logarithms, are limits and computed analytically. The value
    is finite for every pair of supports if alpha and beta are positive. Otherwise it can be +inf
    where one side alone has a logit of -inf; infinite terms are left out of the gradient.

    Args:
        student: Logits of q.
        teacher: Logits of p, of the same shape; -inf on both sides is outside the vocabulary.
        alpha: The exponent of p, any finite number.
        beta: The exponent of q, any finite number.
        temperature: Divides both logits. The factor T^2 is not included.

    Returns:
        One value per position, in float32 or wider.

    Raises:
        ValueError: If the shapes differ, or a number is out of its range.
        TypeError: If the logits are not floating point.

    Wang et al., ABKD: Pursuing a Proper Allocation of the Probability Mass in Knowledge
    Distillation via alpha-beta-Divergence, 2025. The limits: Cichocki, Cruces, Amari, Generalized
    Alpha-Beta Divergences and Their Application to Robust Nonnegative Matrix Factorization, 2011.

    >>> alpha_beta(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([0.1272])
    """
    check_finite("alpha", alpha)
    check_finite("beta", beta)
    student, teacher = tempered_pair(student, teacher, temperature)
    log_q, log_p = log_probs(student), log_probs(teacher)
    if beta == 0 or 0 != alpha > beta:  # D(alpha, beta)(p || q) = D(beta, alpha)(q || p)
        return _AlphaBeta.apply(log_q, log_p, beta, alpha)
    return _AlphaBeta.apply(log_p, log_q, alpha, beta)
