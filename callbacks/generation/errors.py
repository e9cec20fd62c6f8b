"""Find the token of each sequence on which student and teacher disagree most."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from kdlight.losses.correction import Direction, disagreement, worst
from kdlight.objectives import LossInputs
from kdlight.reduce import position_values


class Errors(NamedTuple):
    """The worst token of each sequence, (B,).

    Attributes:
        position: of the logits that predict the token; -1 if the sequence has no error.
        token: the teacher's most likely token.
        score: the divergence at the position.
    """

    position: Tensor
    token: Tensor
    score: Tensor


@torch.no_grad()
def find_errors(inputs: LossInputs, *, divergence: Direction, at_least: float) -> Errors:
    """Return the worst token of each sequence, among those that the teacher would not choose.

    Args:
        inputs: logits (B, T, V) of student and teacher, the generated tokens as labels (B, T), and
            the mask of the responses (B, T).
        divergence: ``"forward"`` or ``"reverse"`` KL.
        at_least: ignore tokens whose divergence is below.
    """
    assert inputs.teacher is not None
    assert inputs.mask is not None
    per_token = partial(disagreement, divergence=divergence)
    scores = position_values(
        per_token,
        inputs.student,
        inputs.teacher,
        inputs.labels,
        inputs.mask,
        fill=-torch.inf,
        chunked=inputs.chunked,
    )
    position = worst(scores, at_least=at_least)
    column = position.clamp(min=0)
    row_start = torch.arange(len(position), device=position.device) * scores.shape[1]
    token = inputs.teacher.select(row_start + column).logits().argmax(-1)
    return Errors(position, token, scores.gather(1, column[:, None]).squeeze(1))
