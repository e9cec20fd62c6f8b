"""Kullback-Leibler divergences: forward, reverse, and their weighted sum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from kdlight.losses.checks import check_range
from kdlight.losses.log_space import FORBIDDEN, log_probs, probs, sum_terms, tempered_pair


class _KL(Function):
    """Sum of p (log p - log q), with slopes that know their limits.

    Autograd goes through the product factor by factor, and meets 0 * inf at every impossible token.
    ``p`` is the exponential of ``log_p``, and its part of the slope is counted under ``log_p``, but
    for the p itself that comes of it: p sums to 1 whatever moves, so that part never reaches a
    logit, and without it the slope is exactly 0 at a match.
    """

    generate_vmap_rule = True  # per-sample gradients with torch.func

    @staticmethod
    def forward(p: Tensor, log_p: Tensor, log_q: Tensor) -> Tensor:
        return sum_terms((log_p - log_q).mul_(p), p, log_q[..., :1].exp())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        p, log_p, log_q = inputs
        # A frozen teacher's log p is not kept: the slope of log q needs p alone.
        ctx.save_for_backward(p, *((log_p, log_q) if ctx.needs_input_grad[1] else ()))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        p, *logs = ctx.saved_tensors
        grad = grad.unsqueeze(-1)
        grad_p = grad_q = None
        if ctx.needs_input_grad[1]:
            log_p, log_q = logs
            # p > 0 over q = 0 is an infinite slope, which no step could follow: leave its log out.
            log_ratio = torch.threshold_(log_q - log_p, -FORBIDDEN, 0.0)
            log_ratio = log_ratio.nan_to_num_(nan=0.0, posinf=0.0)  # where p = 0, which wins
            grad_p = (p * -grad).mul_(log_ratio)
        if ctx.needs_input_grad[2]:
            grad_q = p * -grad
        return None, grad_p, grad_q


def kl(log_p: Tensor, log_q: Tensor, *, p: Tensor | None = None) -> Tensor:
    r"""KL(p || q) of two log-probabilities, (..., V), (..., V) -> (...), differentiable in both.

    .. math:: \sum_v p_v (\log p_v - \log q_v), \qquad 0 \log 0 = 0

    Both must sum to 1, however their logits move. It is +inf where q forbids a token that p allows;
    the gradient stays finite, exact in log q and without the infinite logs in log p. Who has the
    probabilities already passes them as ``p``.

    >>> kl(torch.tensor([0.5, 0.5]).log(), torch.tensor([1.0, 0.0]).log())
    tensor(inf)
    """
    return _KL.apply(log_p.exp() if p is None else p, log_p, log_q)


def weigh(weight: float | Tensor, value: Tensor) -> Tensor:
    """``weight * value``, where a weight of 0 silences even infinity, (...), (...) -> (...)."""
    if isinstance(weight, Tensor):
        return weight * value.masked_fill((weight == 0) & value.isinf(), 0.0)
    return weight * (value if weight else value.masked_fill(value.isinf(), 0.0))


def forward_kl(student: Tensor, teacher: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    r"""KL from the teacher to the student per token, (..., V), (..., V) -> (...).

    .. math:: \operatorname{KL}(p \| q) = \sum_v p_v (\log p_v - \log q_v), \qquad
              \nabla_{z_s} = (q - p) / T

    The default of distillation: the student covers whatever the teacher finds possible. It is +inf
    where the student alone forbids (-inf) a token under teacher mass; the gradient is still q - p.

    Args:
        student: Logits of q.
        teacher: Logits of p, of the same shape; -inf on both sides is outside the vocabulary.
        temperature: Divides both logits. There is no factor T^2 inside.

    Raises:
        ValueError: If the shapes differ or the temperature is not positive.
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

    For a small student: it settles on what the teacher finds likely instead of covering all of it.
    It is +inf where the teacher alone forbids (-inf) a token under student mass; such a token's
    infinite pull is left out of the gradient.

    Args:
        student: Logits of q.
        teacher: Logits of p, of the same shape; -inf on both sides is outside the vocabulary.
        temperature: Divides both logits. There is no factor T^2 inside.

    Raises:
        ValueError: If the shapes differ or the temperature is not positive.
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
    r"""A weighted sum of forward and reverse KL per token, (..., V), (..., V) -> (...).

    .. math:: w \operatorname{KL}(p \| q) + (1 - w) \operatorname{KL}(q \| p)

    Between covering and settling, with a dial. It is +inf where either side with a weight is.

    Args:
        student: Logits of q.
        teacher: Logits of p, of the same shape; -inf on both sides is outside the vocabulary.
        forward_weight: The weight w of the forward half, in [0, 1].
        temperature: Divides both logits. There is no factor T^2 inside.

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
    student, teacher = tempered_pair(student, teacher, temperature)
    log_q, log_p = log_probs(student), log_probs(teacher)
    forward, reverse = kl(log_p, log_q, p=probs(teacher)), kl(log_q, log_p, p=probs(student))
    return weigh(forward_weight, forward) + weigh(1.0 - forward_weight, reverse)
