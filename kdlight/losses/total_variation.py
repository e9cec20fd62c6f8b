"""Total variation distance between two probability vectors."""

from __future__ import annotations

from torch import Tensor

from kdlight.losses.log_space import probs, tempered_pair


def total_variation(
    student: Tensor, teacher: Tensor, *, temperature: float | Tensor = 1.0
) -> Tensor:
    r"""Total variation distance per token, (..., V), (..., V) -> (...).

    .. math:: \tfrac12 \sum_v |p_v - q_v| \in [0, 1]

    It is symmetric and bounded, so a few extreme tokens cannot dominate a batch. It is finite for
    every pair of supports. Where p = q, the gradient of a term is 0.

    Args:
        student: Logits of q.
        teacher: Logits of p, of the same shape.
        temperature: Divides both logits. The factor T^2 is not included.

    Returns:
        One value per position, in float32 or wider.

    Raises:
        ValueError: If the shapes differ, or the temperature is not above 0 and finite.
        TypeError: If the logits are not floating point.

    Wen, Li, Du, Mou, f-Divergence Minimization for Sequence-Level Knowledge Distillation, 2023.

    >>> import torch
    >>> total_variation(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([0.2311])
    """
    student, teacher = tempered_pair(student, teacher, temperature)
    return (probs(teacher) - probs(student)).abs().sum(-1) / 2
