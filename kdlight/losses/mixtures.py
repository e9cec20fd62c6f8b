"""Divergences to a mixture of student and teacher: skew KL and generalised Jensen-Shannon."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from kdlight.checks import check_range
from kdlight.losses import forward_mode
from kdlight.losses.kl import forward_kl, reverse_kl
from kdlight.losses.log_space import probs, sum_terms, tempered_pair


class _KLToMixture(Function):
    """Sum of p log(p / m) with m = w p + (1 - w) q, for 0 < w < 1.

    The ratio is computed before its logarithm: it is exactly 1 where p = q, and at most 1 / w where
    the mixture underflows, whose own logarithm would be -inf.
    """

    generate_vmap_rule = True  # per-sample gradients with torch.func

    @staticmethod
    def forward(p: Tensor, q: Tensor, weight: float) -> Tensor:
        return sum_terms(_ratio(p, q, weight).log_().mul_(p), p, q)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:
        p, q, ctx.weight = inputs
        ctx.save_for_backward(p, q)
        forward_mode.save(ctx, p, q)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        p, q = ctx.saved_tensors
        grads = _slopes(p, q, ctx.weight, ctx.needs_input_grad)
        return *(None if each is None else each * grad.unsqueeze(-1) for each in grads), None

    @staticmethod
    def derivative(
        ctx: Any, along_p: Tensor | None, along_q: Tensor | None, along_weight: None
    ) -> Tensor:
        p, q = ctx.saved_tensors
        grads = _slopes(p, q, ctx.weight, (along_p is not None, along_q is not None))
        return forward_mode.along(*zip(grads, (along_p, along_q), strict=True))


def _slopes(
    p: Tensor, q: Tensor, weight: float, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients in p and q of sum p log(p / m) - p + m.

    It has the same value as without the last two, and a gradient of exactly 0 at p = q.
    """
    ratio = _ratio(p, q, weight)
    excess = ratio - 1.0
    grad_p = grad_q = None
    if needed[0]:
        # log 0 at p = 0 is left out: the softmax multiplies it by p.
        # torch.compile would make an ``alpha`` of the difference a constant
        grad_p = ratio.log().nan_to_num_(neginf=0.0).sub_(excess * weight)
    if needed[1]:
        grad_q = excess * (weight - 1.0)
    return grad_p, grad_q


def _ratio(p: Tensor, q: Tensor, weight: float) -> Tensor:
    """Compute p / m in a new tensor; 0 where p and q are both 0."""
    # torch.compile makes the weight of a lerp and the bound of a clamp constants, and would compile
    # again for each other one
    mixture = (p - q).mul_(weight).add_(q)
    ratio = (p / mixture).nan_to_num_(nan=0.0, posinf=torch.inf)
    return torch.where(ratio.isinf(), ratio.new_ones(()) / weight, ratio)


def skew_forward_kl(
    student: Tensor, teacher: Tensor, *, skew: float = 0.1, temperature: float | Tensor = 1.0
) -> Tensor:
    r"""KL from the teacher to a mixture that holds the student, (..., V), (..., V) -> (...).

    .. math:: \operatorname{KL}(p \| \lambda p + (1 - \lambda) q)

    A forward KL with a bound: a token to which the student gives no probability costs at most
    -log lambda. The gradient of such a token is smaller, too: with respect to the logits it is
    q - p for forward KL, and vanishes with q here, so a large lambda gives up on the token.

    Args:
        student: Logits of q.
        teacher: Logits of p, of the same shape; -inf on both sides is outside the vocabulary.
        skew: The weight lambda of p in the mixture, in [0, 1); 0 is `forward_kl`.
        temperature: Divides both logits. The factor T^2 is not included.

    Returns:
        One value per position, in float32 or wider.

    Raises:
        ValueError: If the shapes differ, or a number is out of its range.
        TypeError: If the logits are not floating point.

    Ko, Kim, Chen, Yun, DistiLLM: Towards Streamlined Distillation for Large Language Models, 2024.

    >>> import torch
    >>> skew_forward_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([0.0906])
    """
    return _skew_kl(student, teacher, skew, temperature, reverse=False)


def skew_reverse_kl(
    student: Tensor, teacher: Tensor, *, skew: float = 0.1, temperature: float | Tensor = 1.0
) -> Tensor:
    r"""KL from the student to a mixture that holds the teacher, (..., V), (..., V) -> (...).

    .. math:: \operatorname{KL}(q \| (1 - \lambda) p + \lambda q)

    A reverse KL with bounded values and gradients: a token to which the teacher gives no
    probability costs at most -log lambda, while log q / p has no bound in the loss of `reverse_kl`
    or in its gradient.

    Args:
        student: Logits of q.
        teacher: Logits of p, of the same shape; -inf on both sides is outside the vocabulary.
        skew: The weight lambda of q in the mixture, in [0, 1); 0 is `reverse_kl`.
        temperature: Divides both logits. The factor T^2 is not included.

    Returns:
        One value per position, in float32 or wider.

    Raises:
        ValueError: If the shapes differ, or a number is out of its range.
        TypeError: If the logits are not floating point.

    Ko, Kim, Chen, Yun, DistiLLM: Towards Streamlined Distillation for Large Language Models, 2024.

    >>> import torch
    >>> skew_reverse_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([0.0950])
    """
    return _skew_kl(student, teacher, skew, temperature, reverse=True)


def _skew_kl(
    student: Tensor, teacher: Tensor, skew: float, temperature: float | Tensor, *, reverse: bool
) -> Tensor:
    check_range("skew", skew, 0.0, 1.0, open_high=True)
    if skew == 0:
        return (reverse_kl if reverse else forward_kl)(student, teacher, temperature=temperature)
    student, teacher = tempered_pair(student, teacher, temperature)
    q, p = probs(student), probs(teacher)
    return forward_mode.apply(_KLToMixture, *((q, p) if reverse else (p, q)), skew)


def jensen_shannon(
    student: Tensor, teacher: Tensor, *, beta: float = 0.5, temperature: float | Tensor = 1.0
) -> Tensor:
    r"""Generalised Jensen-Shannon divergence per token, (..., V), (..., V) -> (...).

    .. math:: \beta \operatorname{KL}(p \| m) + (1 - \beta) \operatorname{KL}(q \| m), \qquad
              m = \beta p + (1 - \beta) q

    It is bounded and finite for every pair of supports, and interpolates between the two directions
    of KL. Take care near the ends: the formula vanishes like beta KL(p || q) as beta -> 0, and like
    (1 - beta) KL(q || p) as beta -> 1, while beta = 0 and beta = 1 themselves are by convention
    the unscaled `forward_kl` and `reverse_kl`. So the loss jumps at the ends, and near them beta
    acts like a learning rate.

    Args:
        student: Logits of q.
        teacher: Logits of p, of the same shape; -inf on both sides is outside the vocabulary.
        beta: The weight of the teacher in the mixture, in [0, 1].
        temperature: Divides both logits. The factor T^2 is not included.

    Returns:
        One value per position, in float32 or wider.

    Raises:
        ValueError: If the shapes differ, or a number is out of its range.
        TypeError: If the logits are not floating point.

    Agarwal et al., On-Policy Distillation of Language Models: Learning from Self-Generated
    Mistakes, 2024, eq. (1).

    >>> import torch
    >>> jensen_shannon(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([0.0285])
    """
    check_range("beta", beta, 0.0, 1.0)
    if beta in (0, 1):
        return (reverse_kl if beta else forward_kl)(student, teacher, temperature=temperature)
    student, teacher = tempered_pair(student, teacher, temperature)
    p, q = probs(teacher), probs(student)
    from_teacher = forward_mode.apply(_KLToMixture, p, q, beta)
    from_student = forward_mode.apply(_KLToMixture, q, p, 1.0 - beta)
    return beta * from_teacher + (1.0 - beta) * from_student
