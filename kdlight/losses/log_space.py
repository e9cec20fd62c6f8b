"""The door from logits to probabilities: this room's only softmax, in float32 or wider."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Logs further apart than this come from a logit at -inf or at the lowest float, not from a model.
FORBIDDEN = 1e30


def widen(logits: Tensor) -> Tensor:
    """Bring half precision to float32 and leave wider types as they are, (...) -> (...).

    Raises:
        TypeError: If the logits are not floating point.
    """
    if not logits.is_floating_point():
        raise TypeError(f"logits must be floating point, got {logits.dtype}; ids are labels")
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def tempered(logits: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """Widened logits over the temperature, (..., V) -> (..., V).

    Args:
        logits: Scores over the vocabulary, of any floating type.
        temperature: A positive number, or a tensor that broadcasts against ``logits``
            (a learned temperature: it is not checked, and gets its gradient).

    Raises:
        TypeError: If the logits are not floating point.
        ValueError: If the temperature is not a positive finite number.
    """
    logits = widen(logits)
    if isinstance(temperature, Tensor):
        return logits / temperature
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be a positive finite number, got {temperature}")
    return logits if temperature == 1 else logits / temperature  # 1 costs no pass over the logits


def log_probs(logits: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    r"""Log-probabilities of tempered logits, (..., V) -> (..., V).

    .. math:: \log \operatorname{softmax}(z / T)

    A logit of -inf stays -inf: the token has probability 0. A NaN makes its whole row NaN.

    >>> log_probs(torch.tensor([0.0, 0.0], dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return torch.log_softmax(tempered(logits, temperature), -1)


def probs(logits: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """Probabilities of tempered logits, (..., V) -> (..., V).

    Where both are needed this is quicker than the exponential of `log_probs`.

    >>> probs(torch.tensor([0.0, 0.0]))
    tensor([0.5000, 0.5000])
    """
    return torch.softmax(tempered(logits, temperature), -1)


def tempered_pair(
    student: Tensor, teacher: Tensor, temperature: float | Tensor = 1.0
) -> tuple[Tensor, Tensor]:
    """Student and teacher logits, checked, in one type and over the temperature.

    Raises:
        ValueError: If the shapes differ, or the temperature is not positive.
        TypeError: If either is not floating point.
    """
    if student.shape != teacher.shape:
        shapes = f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)}"
        if student.shape[:-1] == teacher.shape[:-1]:
            raise ValueError(
                f"the vocabularies differ: {shapes}; cut both to the columns they share, "
                "or use a loss made for two vocabularies"
            )
        raise ValueError(f"student and teacher logits must have one shape (..., V), got {shapes}")
    if student.dim() == 0:
        raise ValueError("student and teacher logits must have a vocabulary axis, got 0-d tensors")
    student, teacher = tempered(student, temperature), tempered(teacher, temperature)
    wider = torch.promote_types(student.dtype, teacher.dtype)
    return student.to(wider), teacher.to(wider)


def sum_terms(terms: Tensor, *witnesses: Tensor) -> Tensor:
    """Sum over the vocabulary in which 0 * inf counts 0, (..., V), (..., V)... -> (...).

    A token of probability 0 may make its term NaN, and is left out. That must not hide a NaN of the
    network: the softmax spreads one over its whole row, so the first column of the probabilities,
    the witnesses, gives it back.
    """
    total = terms.nansum(-1)
    for probabilities in witnesses:
        total = total + 0.0 * probabilities[..., 0]
    return total
