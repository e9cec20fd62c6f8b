"""From logits to probabilities and their logarithms, in float32 or wider."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from kdlight.checks import check_positive, check_positive_tensor
from kdlight.losses import forward_mode

FORBIDDEN = 1e30
"""A logit that is further than this below the highest one counts as -inf: its token is impossible.

Masks and padded vocabularies use the lowest float instead of -inf. As a number it would make
divergences of some 1e37 that look finite, with gradients to match.
"""


def widen(logits: Tensor) -> Tensor:
    """Convert half precision to float32 and keep wider types, (...) -> (...).

    Raises:
        TypeError: If the logits are not floating point.
    """
    if not logits.is_floating_point():
        raise TypeError(
            f"logits must be floating point, got {logits.dtype}; pass token ids as labels"
        )
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def tempered(logits: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """Divide logits by the temperature, in float32 or wider, (..., V) -> (..., V).

    Args:
        logits: Scores over the vocabulary, of any floating type.
        temperature: A positive number, or a tensor that broadcasts against ``logits`` (a learned
            temperature), which gets a gradient.

    The highest logit becomes 0 first: far from 0, a quotient would be rounded to fewer digits than
    the differences of the logits have.

    Raises:
        TypeError: If the logits are not floating point.
        ValueError: If the temperature is not above 0 and finite. A tensor whose value cannot be
            read without waiting for a device is not checked, and gives NaN.
    """
    logits = widen(logits)
    if isinstance(temperature, Tensor):
        return shifted(logits) / check_positive_tensor("temperature", temperature)
    check_positive("temperature", temperature)
    # skip passes over the logits; compiled code has none to skip, and would be compiled once more
    if not torch.compiler.is_compiling() and temperature == 1:
        return logits
    return shifted(logits).div_(temperature)


def shifted(logits: Tensor) -> Tensor:
    """Subtract the highest logit of each row, which changes no probability, (..., V) -> (..., V).

    >>> shifted(torch.tensor([1e6, 1e6 + 1]))
    tensor([-1.,  0.])
    """
    if not logits.shape[-1]:
        return logits.clone()
    return logits - logits.detach().amax(-1, keepdim=True)


def without_impossible(logits: Tensor) -> Tensor:
    """Replace logits of impossible tokens by -inf, as `log_probs` does, (..., V) -> (..., V).

    The gradient passes as if nothing were replaced.
    """
    logits = shifted(logits)
    return logits + torch.zeros_like(logits).masked_fill_(logits.detach() <= -FORBIDDEN, -torch.inf)


class _LogSoftmax(Function):
    """The log-softmax, -inf for impossible tokens, with the gradient of the log-softmax."""

    generate_vmap_rule = True  # per-sample gradients with torch.func

    @staticmethod
    def forward(logits: Tensor) -> Tensor:
        return torch.threshold_(torch.log_softmax(logits, -1), -FORBIDDEN, -torch.inf)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)
        forward_mode.save(ctx, output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (log_p,) = ctx.saved_tensors
        return grad - log_p.exp() * grad.sum(-1, keepdim=True)

    @staticmethod
    def derivative(ctx: Any, tangent: Tensor) -> Tensor:
        (log_p,) = ctx.saved_tensors
        return tangent - (log_p.exp() * tangent).sum(-1, keepdim=True)


def log_probs(logits: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    r"""Compute log-probabilities, (..., V) -> (..., V).

    .. math:: \log \operatorname{softmax}(z / T)

    A logit of -inf, or one that is `FORBIDDEN` below the highest, gives -inf, that is a probability
    of 0. A NaN makes its whole row NaN.

    >>> log_probs(torch.tensor([0.0, 0.0], dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return forward_mode.apply(_LogSoftmax, tempered(logits, temperature))


def probs(logits: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """Compute probabilities, (..., V) -> (..., V).

    If both are needed, this is faster than the exponential of `log_probs`.

    >>> probs(torch.tensor([0.0, 0.0]))
    tensor([0.5000, 0.5000])
    """
    return torch.softmax(tempered(logits, temperature), -1)


def tempered_pair(
    student: Tensor, teacher: Tensor, temperature: float | Tensor = 1.0
) -> tuple[Tensor, Tensor]:
    """Check the logits of student and teacher, and divide both by the temperature.

    Shapes (..., V), (..., V) -> (..., V), (..., V). Both results have the wider of the two types.

    Raises:
        ValueError: If the shapes differ, or the temperature is not above 0 and finite.
        TypeError: If either is not floating point.
    """
    student, teacher = same_type(student, teacher)
    return tempered(student, temperature), tempered(teacher, temperature)


def same_type(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Check the shapes of student and teacher, and convert both to the wider of their types.

    Shapes (..., V), (..., V) -> (..., V), (..., V), in float32 or wider.

    Raises:
        ValueError: If the shapes differ.
        TypeError: If either is not floating point.

    >>> [x.dtype for x in same_type(torch.zeros(2).half(), torch.zeros(2).double())]
    [torch.float64, torch.float64]
    """
    if student.shape != teacher.shape:
        shapes = f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)}"
        if student.shape[:-1] == teacher.shape[:-1]:
            raise ValueError(
                f"the vocabularies differ: {shapes}; keep only the columns that both have, or use "
                "a loss for two vocabularies"
            )
        raise ValueError(f"student and teacher logits must have one shape (..., V), got {shapes}")
    if student.dim() == 0:
        raise ValueError("student and teacher logits must have a vocabulary axis, got 0-d tensors")
    student, teacher = widen(student), widen(teacher)
    wider = torch.promote_types(student.dtype, teacher.dtype)
    return student.to(wider), teacher.to(wider)


def sum_terms(terms: Tensor, *probabilities: Tensor) -> Tensor:
    """Sum over the vocabulary, counting 0 * inf as 0, (..., V), (..., V)... -> (...).

    A token of probability 0 may make its term NaN, so NaN terms are left out. A NaN that comes from
    the network must stay visible: the softmax spreads it over its whole row, so the first column of
    each of the ``probabilities`` restores it.
    """
    total = terms.nansum(-1)
    for each in probabilities:
        total = total + 0.0 * each[..., 0]
    return total
