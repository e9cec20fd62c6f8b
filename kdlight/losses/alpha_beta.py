"""The alpha-beta divergence, and its limits where an exponent vanishes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from kdlight.checks import check_finite
from kdlight.losses import forward_mode
from kdlight.losses.log_space import FORBIDDEN, log_probs, sum_terms, tempered_pair


class _AlphaBeta(Function):
    """The divergence, for alpha = 0 or alpha <= beta, and beta = 0 only if alpha is 0, too.

    With s = alpha + beta and d = log p - log q its terms are q^s / beta times
    (e^(s d) - 1) / s - (e^(alpha d) - 1) / alpha. This form divides by nothing that may vanish:
    where s or alpha is 0, its quotient is replaced by the limit, d. No term is negative.
    """

    generate_vmap_rule = True  # per-sample gradients with torch.func

    @staticmethod
    def forward(log_p: Tensor, log_q: Tensor, alpha: float, beta: float) -> Tensor:
        probabilities = log_p[..., :1].exp(), log_q[..., :1].exp()
        if beta == 0:
            return sum_terms((log_p - log_q).square(), *probabilities) / 2
        terms = _growth(log_p, log_q, alpha + beta, alpha, beta)
        terms = terms.sub_(_growth(log_p, log_q, alpha, alpha, beta)).div_(beta)
        # inf - inf: one side alone is impossible, or both parts overflow
        outside = (log_p == -math.inf) & (log_q == -math.inf)
        terms = terms.masked_fill(terms.isnan(), math.inf).masked_fill(outside, 0.0)
        return sum_terms(terms, *probabilities)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        log_p, log_q, ctx.alpha, ctx.beta = inputs
        ctx.save_for_backward(log_p, log_q)
        forward_mode.save(ctx, log_p, log_q)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        log_p, log_q = ctx.saved_tensors
        grads = _slopes(log_p, log_q, ctx.alpha, ctx.beta, ctx.needs_input_grad)
        return *(None if each is None else each * grad.unsqueeze(-1) for each in grads), None, None

    @staticmethod
    def derivative(ctx: Any, along_p: Any, along_q: Any, _: Any, __: Any) -> Tensor:
        log_p, log_q = ctx.saved_tensors
        needed = along_p is not None, along_q is not None
        grads = _slopes(log_p, log_q, ctx.alpha, ctx.beta, needed)
        return forward_mode.along(*zip(grads, (along_p, along_q), strict=True))


def _slopes(
    log_p: Tensor, log_q: Tensor, alpha: float, beta: float, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients in log p and log q, always finite."""
    grad_p = grad_q = None
    growth = _growth(log_p, log_q, alpha, alpha, beta).nan_to_num_(0.0, 0.0, 0.0)
    if alpha == 0:
        growth = growth.masked_fill((log_p - log_q).abs() > FORBIDDEN, 0.0)
    if needed[0]:
        grad_p, s = growth, alpha + beta
        if s != 0:
            gap = _growth(log_p, log_q, s, alpha, beta)
            grad_p = (s * gap).sub_(growth, alpha=alpha).div_(beta).nan_to_num_(0.0, 0.0, 0.0)
    if needed[1]:
        grad_q = -growth
    return grad_p, grad_q


def _growth(log_p: Tensor, log_q: Tensor, rate: float, alpha: float, beta: float) -> Tensor:
    """q^s (e^(c d) - 1) / c in a new tensor, or q^s d at c = 0; c is s = alpha + beta, or alpha.

    If c d is positive, it is -q^s e^(c d) (e^(-c d) - 1) / c instead, in which no factor overflows
    if the product does not.
    """
    s, gap = alpha + beta, log_p - log_q
    if rate == 0:
        # 0 * inf is 0: the power vanishes faster than its logarithm grows
        return gap if s == 0 else ((s * log_q).exp() * gap).nan_to_num_(0.0, math.inf, -math.inf)
    rises = rate * gap > 0
    power = s * log_q if s != 0 else torch.zeros_like(log_q)
    risen = s * log_p if rate == s else alpha * log_p + beta * log_q
    growth = torch.where(rises, risen, power).exp() * (-(rate * gap).abs()).expm1()
    growth = torch.where(rises, -growth, growth).div_(rate)
    return growth.masked_fill_(gap == 0, 0.0)  # also where q^s overflows


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
    where one side alone has a logit of -inf; infinite slopes count 0, by the rule of
    `kdlight.losses`.

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
        return forward_mode.apply(_AlphaBeta, log_q, log_p, beta, alpha)
    return forward_mode.apply(_AlphaBeta, log_p, log_q, alpha, beta)
