"""From logits to probabilities and their logarithms, in float32 or wider."""

from __future__ import annotations

import torch
from torch import Tensor

from kdlight.checks import check_positive

# A larger difference of log-probabilities comes from a logit of -inf or of the lowest float.
FORBIDDEN = 1e30


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
            temperature). A tensor gets a gradient and is not checked.

    Raises:
        TypeError: If the logits are not floating point.
        ValueError: If the temperature is a number that is not above 0 and finite.
    """
    logits = widen(logits)
    if isinstance(temperature, Tensor):
        return logits / temperature
    check_positive("temperature", temperature)
    return logits if temperature == 1 else logits / temperature  # skip a pass over the logits


def log_probs(logits: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    r"""Compute log-probabilities, (..., V) -> (..., V).

    .. math:: \log \operatorname{softmax}(z / T)

    A logit of -inf gives -inf, that is a probability of 0. A NaN makes its whole row NaN.

    >>> log_probs(torch.tensor([0.0, 0.0], dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return torch.log_softmax(tempered(logits, temperature), -1)


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
    student, teacher = tempered(student, temperature), tempered(teacher, temperature)
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
