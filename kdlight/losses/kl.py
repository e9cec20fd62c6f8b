"""Kullback-Leibler divergences: forward, reverse, and their weighted sum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from kdlight.checks import check_range
from kdlight.losses import forward_mode
from kdlight.losses.log_space import FORBIDDEN, log_probs, probs, sum_terms, tempered_pair


class _KL(Function):
    """Sum of p (log p - log q), with finite gradients.

    Autograd differentiates the product factor by factor, and meets 0 * inf at every token of
    probability 0. Here ``p`` is the exponential of ``log_p``, and its gradient is returned as part
    of that of ``log_p``, except for one term equal to p itself. As p always sums to 1, that term
    does not reach the logits, and without it the gradient is exactly 0 at p = q.
    """

    generate_vmap_rule = True  # per-sample gradients with torch.func

    @staticmethod
    def forward(p: Tensor, log_p: Tensor, log_q: Tensor) -> Tensor:
        return sum_terms((log_p - log_q).mul_(p), p, log_q[..., :1].exp())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        p, log_p, log_q = inputs
        # A frozen teacher's log p is not saved: the gradient of log q needs p alone.
        ctx.save_for_backward(p, *((log_p, log_q) if ctx.needs_input_grad[1] else ()))
        forward_mode.save(ctx, *inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        p, *logs = ctx.saved_tensors
        minus = -grad.unsqueeze(-1)
        grad_p = grad_q = None
        if ctx.needs_input_grad[1]:
            grad_p = (p * minus).mul_(_finite_log_ratio(*logs))
        if ctx.needs_input_grad[2]:
            grad_q = p * minus
        return None, grad_p, grad_q

    @staticmethod
    def derivative(ctx: Any, _: Any, along_p: Tensor | None, along_q: Tensor | None) -> Tensor:
        p, log_p, log_q = ctx.saved_tensors
        return forward_mode.along((p * -_finite_log_ratio(log_p, log_q), along_p), (-p, along_q))


def _finite_log_ratio(log_p: Tensor, log_q: Tensor) -> Tensor:
    # p > 0 over q = 0 has an infinite gradient, which no step could follow: leave it out.
    log_ratio = torch.threshold_(log_q - log_p, -FORBIDDEN, 0.0)
    return log_ratio.nan_to_num_(nan=0.0, posinf=0.0)  # p = 0: the term is 0


def kl(log_p: Tensor, log_q: Tensor, *, p: Tensor | None = None) -> Tensor:
    r"""KL(p || q) of two log-probabilities, (..., V), (..., V) -> (...), differentiable in both.

    .. math:: \sum_v p_v (\log p_v - \log q_v), \qquad 0 \log 0 = 0

    Both must be normalized: outputs of a log-softmax. The value is +inf where q is 0 and p is not.
    The gradient is always finite: exact in log q, and without the infinite terms in log p.

    Args:
        log_p: Log-probabilities of p.
        log_q: Log-probabilities of q.
        p: The exponential of ``log_p``, if it is known already.

    >>> kl(torch.tensor([0.5, 0.5]).log(), torch.tensor([1.0, 0.0]).log())
    tensor(inf)
    """
    return forward_mode.apply(_KL, log_p.exp() if p is None else p, log_p, log_q)


def both_kls(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """KL(p || q) and KL(q || p) of checked logits, (..., V), (..., V) -> (...), (...)."""
    log_q, log_p = log_probs(student), log_probs(teacher)
    return kl(log_p, log_q, p=probs(teacher)), kl(log_q, log_p, p=probs(student))


def weigh(weight: float | Tensor, value: Tensor) -> Tensor:
    """Compute ``weight * value``, which is 0 where the weight is 0 and the value infinite.

    Shapes (...), (...) -> (...).
    """
    if isinstance(weight, Tensor):
        return weight * value.masked_fill((weight == 0) & value.isinf(), 0.0)
    # compared, as the truth of a number would make it a constant of compiled code
    return weight * (value if weight != 0 else value.masked_fill(value.isinf(), 0.0))


def forward_kl(student: Tensor, teacher: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    r"""KL from the teacher to the student per token, (..., V), (..., V) -> (...).

    .. math:: \operatorname{KL}(p \| q) = \sum_v p_v (\log p_v - \log q_v), \qquad
              \nabla_{z_s} = (q - p) / T

    The default of distillation. It is mode-covering: the student gives probability to every token
    to which the teacher gives some. The value is +inf where only the student has a logit of -inf,
    at a token with teacher probability; the gradient is still (q - p) / T.

    Args:
        student: Logits of q.
        teacher: Logits of p, of the same shape; -inf on both sides is outside the vocabulary.
        temperature: Divides both logits. The factor T^2 is not included.

    Returns:
        One value per position, in float32 or wider.

    Raises:
        ValueError: If the shapes differ, or the temperature is not above 0 and finite.
        TypeError: If the logits are not floating point.

    Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, 2015.

    >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> forward_kl(student, teacher)
    tensor([0.1109])
    """
    student, teacher = tempered_pair(student, teacher, temperature)
    return kl(log_probs(teacher), log_probs(student), p=probs(teacher))


def reverse_kl(student: Tensor, teacher: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    r"""KL from the student to the teacher per token, (..., V), (..., V) -> (...).

    .. math:: \operatorname{KL}(q \| p) = \sum_v q_v (\log q_v - \log p_v), \qquad
              \nabla_{z_s} = q \, (\log q - \log p - \operatorname{KL}(q \| p)) / T

    It is mode-seeking, for a small student: the student concentrates on tokens that are likely
    under the teacher instead of covering all of them. The value is +inf where only the teacher has
    a logit of -inf, at a token with student probability. In the gradient, log q - log p of such a
    token counts 0, by the rule of `kdlight.losses`.

    Args:
        student: Logits of q.
        teacher: Logits of p, of the same shape; -inf on both sides is outside the vocabulary.
        temperature: Divides both logits. The factor T^2 is not included.

    Returns:
        One value per position, in float32 or wider.

    Raises:
        ValueError: If the shapes differ, or the temperature is not above 0 and finite.
        TypeError: If the logits are not floating point.

    Gu, Dong, Wei, Huang, MiniLLM: Knowledge Distillation of Large Language Models, 2024, eq. (1).

    >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> reverse_kl(student, teacher)
    tensor([0.1201])
    """
    student, teacher = tempered_pair(student, teacher, temperature)
    return kl(log_probs(student), log_probs(teacher), p=probs(student))


def symmetric_kl(
    student: Tensor,
    teacher: Tensor,
    *,
    forward_weight: float = 0.5,
    temperature: float | Tensor = 1.0,
) -> Tensor:
    r"""Weighted sum of forward and reverse KL per token, (..., V), (..., V) -> (...).

    .. math:: w \operatorname{KL}(p \| q) + (1 - w) \operatorname{KL}(q \| p)

    A compromise between mode-covering and mode-seeking, set by a weight. The value is +inf where a
    term with a non-zero weight is; the gradient follows the rule of `kdlight.losses`.

    Args:
        student: Logits of q.
        teacher: Logits of p, of the same shape; -inf on both sides is outside the vocabulary.
        forward_weight: The weight w of the forward KL, in [0, 1].
        temperature: Divides both logits. The factor T^2 is not included.

    Returns:
        One value per position, in float32 or wider.

    Raises:
        ValueError: If the shapes differ, or a number is out of its range.
        TypeError: If the logits are not floating point.

    Jeffreys, An Invariant Form for the Prior Probability in Estimation Problems, 1946 (w = 1/2,
    up to a factor 2).

    >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> symmetric_kl(student, teacher)
    tensor([0.1155])
    """
    check_range("forward_weight", forward_weight, 0.0, 1.0)
    forward, reverse = both_kls(*tempered_pair(student, teacher, temperature))
    return weigh(forward_weight, forward) + weigh(1.0 - forward_weight, reverse)
