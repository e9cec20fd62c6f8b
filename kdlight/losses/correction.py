"""Where the teacher disagrees most with a text that the student has generated."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from kdlight.checks import check_choice
from kdlight.losses.kl import forward_kl, reverse_kl

Direction: TypeAlias = Literal["forward", "reverse"]
DIRECTIONS = {"forward": forward_kl, "reverse": reverse_kl}


def disagreement(
    student: Tensor, teacher: Tensor, tokens: Tensor, *, divergence: Direction = "forward"
) -> Tensor:
    """KL where the teacher's most likely token is another one, else -inf.

    Shapes (..., V), (..., V), (...) -> (...). A forward KL can be +inf: the student gives no
    probability to a token of the teacher.

    Args:
        student: Logits of q.
        teacher: Logits of p.
        tokens: The tokens that the student generated, aligned with the logits.
        divergence: ``"forward"`` or ``"reverse"`` KL.

    Raises:
        ValueError: If the shapes differ, or divergence is neither.

    >>> logits = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    >>> disagreement(logits, logits, torch.tensor([0, 1]))
    tensor([0., -inf])
    """
    check_choice("divergence", divergence, (*DIRECTIONS,))
    values = DIRECTIONS[divergence](student, teacher)
    return values.masked_fill(teacher.argmax(-1) == tokens, -torch.inf)


def worst(scores: Tensor, *, at_least: float = 0.0) -> Tensor:
    """The first position of the highest score in each row, (B, T) -> (B,).

    It is -1 for a row whose highest score is -inf or below ``at_least``.

    >>> worst(torch.tensor([[0.1, 0.5, -torch.inf], [-torch.inf] * 3]))
    tensor([ 1, -1])
    """
    if not scores.shape[-1]:
        return scores.new_full(scores.shape[:-1], -1, dtype=torch.long)
    highest, index = scores.max(-1)
    return torch.where((highest > -torch.inf) & (highest >= at_least), index, -1)
