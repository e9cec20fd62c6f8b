"""Adaptive weights of forward and reverse KL: AKL by head and tail, ToDi by vocabulary entry."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from kdlight.checks import check_range
from kdlight.losses import forward_mode
from kdlight.losses.head_of_mass import head_of_mass
from kdlight.losses.kl import kl, weigh
from kdlight.losses.log_space import FORBIDDEN, log_probs, probs, sum_terms, tempered_pair


def adaptive_kl(
    student: Tensor, teacher: Tensor, *, head_mass: float = 0.5, temperature: float | Tensor = 1.0
) -> Tensor:
    r"""Adaptive KL (AKL) per token, (..., V), (..., V) -> (...).

    .. math:: \frac{g_h \operatorname{KL}(p \| q) + g_t \operatorname{KL}(q \| p)}{g_h + g_t},
              \qquad g_h = \sum_{v \in head} |p_v - q_v|, \quad
              g_t = \sum_{v \notin head} |p_v - q_v|

    Forward KL corrects the head of the distribution first, and reverse KL its tail. Each is
    weighted by the share of the gap that lies in its part. The head consists of the most likely
    teacher tokens, in order, as long as their mass stays within ``head_mass``; it always holds the
    most likely token (ties in the order of the vocabulary). The weights take no gradient. Where
    student and teacher are equal the loss is 0. Where one side alone has a logit of -inf, the rule
    of `kdlight.losses` holds.

    Args:
        student: Logits of q.
        teacher: Logits of p, of the same shape; -inf on both sides is outside the vocabulary.
        head_mass: The teacher's mass mu in the head, in [0, 1].
        temperature: Divides both logits. The factor T^2 is not included.

    Returns:
        One value per position, in float32 or wider.

    Raises:
        ValueError: If the shapes differ, or a number is out of its range.
        TypeError: If the logits are not floating point.

    Wu, Tao, Wang, Yang, Zhao, Wong, Rethinking Kullback-Leibler Divergence in Knowledge
    Distillation for Large Language Models, 2024.

    >>> adaptive_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([0.1155])
    """
    check_range("head_mass", head_mass, 0.0, 1.0)
    student, teacher = tempered_pair(student, teacher, temperature)
    log_q, log_p = log_probs(student), log_probs(teacher)
    q, p = probs(student), probs(teacher)
    head, tail = _gap_shares(p.detach(), q.detach(), head_mass)
    return weigh(head, kl(log_p, log_q, p=p)) + weigh(tail, kl(log_q, log_p, p=q))


def _gap_shares(p: Tensor, q: Tensor, head_mass: float) -> tuple[Tensor, Tensor]:
    """The shares of the gap |p - q| in head and tail, (..., V), (..., V) -> (...), (...)."""
    gaps = (p - q).abs_()
    total = gaps.sum(-1)
    return shares(gaps.mul_(head_of_mass(p, head_mass)).sum(-1), total)


def shares(head: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """The parts that the head and the others have in the total, (...), (...) -> (...), (...).

    >>> shares(torch.tensor([1.0, 0.0]), torch.tensor([4.0, 0.0]))
    (tensor([0.2500, 0.0000]), tensor([0.7500, 0.0000]))
    """
    divisor = total.clamp(min=torch.finfo(total.dtype).tiny)  # 0 / 0 at a match is 0
    return head / divisor, (total - head).clamp(min=0.0) / divisor


class _TokenWise(Function):
    """Sum of a p (log p - log q) + (1 - a) q (log q - log p), a = p / (p + q) held constant."""

    generate_vmap_rule = True  # per-sample gradients with torch.func

    @staticmethod
    def forward(p: Tensor, q: Tensor, log_p: Tensor, log_q: Tensor) -> Tensor:
        # a p - (1 - a) q = (p^2 - q^2) / (p + q) = p - q
        return sum_terms((log_p - log_q).mul_(p - q), p, q)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        forward_mode.save(ctx, *inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        p, q, log_p, log_q = ctx.saved_tensors
        grad = grad.unsqueeze(-1)
        grad_p = _token_grad(q, p, log_q, log_p) * grad if ctx.needs_input_grad[2] else None
        grad_q = _token_grad(p, q, log_p, log_q) * grad if ctx.needs_input_grad[3] else None
        return None, None, grad_p, grad_q

    @staticmethod
    def derivative(ctx: Any, _: Any, __: Any, along_p: Any, along_q: Any) -> Tensor:
        p, q, log_p, log_q = ctx.saved_tensors
        return forward_mode.along(
            (_token_grad(q, p, log_q, log_p), along_p), (_token_grad(p, q, log_p, log_q), along_q)
        )


def _token_grad(p: Tensor, q: Tensor, log_p: Tensor, log_q: Tensor) -> Tensor:
    """(1 - a) q (1 + log q - log p) - a p, the gradient in log q, without infinite logarithms."""
    log_ratio = log_p - log_q
    a = log_ratio.sigmoid()
    log_ratio = torch.threshold_(log_ratio, -FORBIDDEN, 0.0).nan_to_num_(nan=0.0, posinf=0.0)
    reverse = log_ratio.neg_().add_(1.0).mul_(q)
    return torch.lerp(reverse, -p, a).nan_to_num_(nan=0.0)


def todi(student: Tensor, teacher: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    r"""Token-wise divergence control (ToDi), (..., V), (..., V) -> (...).

    .. math:: \sum_v \Big[ a_v \, p_v \log \tfrac{p_v}{q_v}
              + (1 - a_v) \, q_v \log \tfrac{q_v}{p_v} \Big], \qquad
              a_v = \operatorname{sg} \sigma(\log p_v - \log q_v)

    Every vocabulary entry has its own weights: forward KL raises what the student underestimates,
    and reverse KL lowers what it overestimates. There are no hyper-parameters to tune. Since
    a = p / (p + q), the value is that of KL(p || q) + KL(q || p). The gradient is a different one,
    as a takes none. The value is +inf where one side alone has a logit of -inf; in the gradient
    the infinite logarithms count 0, by the rule of `kdlight.losses`.

    Args:
        student: Logits of q.
        teacher: Logits of p, of the same shape; -inf on both sides is outside the vocabulary.
        temperature: Divides both logits. The factor T^2 is not included.

    Returns:
        One value per position, in float32 or wider.

    Raises:
        ValueError: If the shapes differ, or the temperature is not above 0 and finite.
        TypeError: If the logits are not floating point.

    Jung, Yoon, Kim, Lee, ToDi: Token-wise Distillation via Fine-Grained Divergence Control, 2025.

    >>> todi(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([0.2311])
    """
    student, teacher = tempered_pair(student, teacher, temperature)
    p, q = probs(teacher), probs(student)
    return forward_mode.apply(_TokenWise, p, q, log_probs(teacher), log_probs(student))
