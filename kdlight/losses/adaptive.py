"""Forward and reverse KL balanced by the gap: AKL by head and tail, ToDi by vocabulary entry."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from kdlight.losses.checks import check_range
from kdlight.losses.kl import kl, weigh
from kdlight.losses.log_space import FORBIDDEN, log_probs, probs, sum_terms, tempered_pair


def adaptive_kl(
    student: Tensor, teacher: Tensor, *, head_mass: float = 0.5, temperature: float | Tensor = 1.0
) -> Tensor:
    r"""Adaptive KL (AKL) per token, (..., V), (..., V) -> (...).

    .. math:: \frac{g_h \operatorname{KL}(p \| q) + g_t \operatorname{KL}(q \| p)}{g_h + g_t},
              \qquad g_h = \sum_{v \in head} |p_v - q_v|, \quad
              g_t = \sum_{v \notin head} |p_v - q_v|

    Forward KL mends the head of the distribution first and reverse KL its tail, so each gets the
    share of the gap it can close. The head is the longest run of most likely teacher tokens whose
    mass stays within ``head_mass``, and always the first (ties in the order of the vocabulary). The
    shares take no gradient; where student and teacher agree the loss is 0.

    Args:
        student: Logits of q.
        teacher: Logits of p, of the same shape; -inf on both sides is outside the vocabulary.
        head_mass: The teacher's mass mu in the head, in [0, 1].
        temperature: Divides both logits. There is no factor T^2 inside.

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
    head, tail = _shares(p.detach(), q.detach(), head_mass)
    return weigh(head, kl(log_p, log_q, p=p)) + weigh(tail, kl(log_q, log_p, p=q))


def _shares(p: Tensor, q: Tensor, head_mass: float) -> tuple[Tensor, Tensor]:
    """The parts of the gap |p - q| in head and tail, (..., V), (..., V) -> (...), (...)."""
    ordered, order = p.sort(dim=-1, descending=True, stable=True)
    size = (ordered.cumsum(-1) <= head_mass).sum(-1, keepdim=True).clamp(min=1)
    gap = ordered.sub_(q.gather(-1, order)).abs_().cumsum(-1)
    total = gap[..., -1]
    head = gap.gather(-1, size - 1).squeeze(-1)
    gap = total.clamp(min=torch.finfo(total.dtype).tiny)  # 0 / 0 at a match is 0
    return head / gap, (total - head).clamp(min=0.0) / gap


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

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        p, q, log_p, log_q = ctx.saved_tensors
        grad = grad.unsqueeze(-1)
        grad_p = _token_slope(q, p, log_q, log_p) * grad if ctx.needs_input_grad[2] else None
        grad_q = _token_slope(p, q, log_p, log_q) * grad if ctx.needs_input_grad[3] else None
        return None, None, grad_p, grad_q


def _token_slope(p: Tensor, q: Tensor, log_p: Tensor, log_q: Tensor) -> Tensor:
    """(1 - a) q (1 + log q - log p) - a p, the slope in log q, without its infinite logs."""
    log_ratio = log_p - log_q
    share = log_ratio.sigmoid()
    log_ratio = torch.threshold_(log_ratio, -FORBIDDEN, 0.0).nan_to_num_(nan=0.0, posinf=0.0)
    pull = log_ratio.neg_().add_(1.0).mul_(q)
    return torch.lerp(pull, -p, share).nan_to_num_(nan=0.0)


def todi(student: Tensor, teacher: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    r"""Token-wise divergence control (ToDi), (..., V), (..., V) -> (...).

    .. math:: \sum_v \Big[ a_v \, p_v \log \tfrac{p_v}{q_v}
              + (1 - a_v) \, q_v \log \tfrac{q_v}{p_v} \Big], \qquad
              a_v = \operatorname{sg} \sigma(\log p_v - \log q_v)

    Each vocabulary entry chooses for itself: forward KL lifts what the student underrates, reverse
    KL lowers what it overrates, and there is nothing to tune. Since a = p / (p + q), the value is
    that of KL(p || q) + KL(q || p); the gradient is not, as a takes none. It is +inf where one side
    forbids (-inf) a token that the other allows; the infinite logs are left out of the gradient.

    Args:
        student: Logits of q.
        teacher: Logits of p, of the same shape; -inf on both sides is outside the vocabulary.
        temperature: Divides both logits. There is no factor T^2 inside.

    Raises:
        ValueError: If the shapes differ or the temperature is not positive.
        TypeError: If the logits are not floating point.

    Jung, Yoon, Kim, Lee, ToDi: Token-wise Distillation via Fine-Grained Divergence Control, 2025.

    >>> todi(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([0.2311])
    """
    student, teacher = tempered_pair(student, teacher, temperature)
    p, q = probs(teacher), probs(student)
    return _TokenWise.apply(p, q, log_probs(teacher), log_probs(student))
