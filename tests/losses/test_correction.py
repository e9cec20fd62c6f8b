"""Where a teacher disagrees most with generated tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight import losses
from kdlight.losses.correction import disagreement, worst


@pytest.mark.parametrize(
    ("divergence", "function"), [("forward", losses.forward_kl), ("reverse", losses.reverse_kl)]
)
def test_disagreement_is_a_kl_where_the_teacher_prefers_another_token(
    divergence: Any, function: Any, student: Tensor, teacher: Tensor
) -> None:
    tokens = teacher.argmax(-1)
    tokens[0, 1] = (tokens[0, 1] + 1) % 7
    scores = disagreement(student, teacher, tokens, divergence=divergence)
    assert scores[0, 1] == function(student, teacher)[0, 1]
    assert scores.isneginf().sum() == 9


def test_a_token_that_the_student_forbids_is_an_infinite_disagreement() -> None:
    student, teacher = torch.tensor([[0.0, -torch.inf]]), torch.tensor([[0.0, 1.0]])
    assert disagreement(student, teacher, torch.tensor([0])) == torch.inf


def test_the_worst_position_is_the_first_highest_score_that_is_high_enough() -> None:
    nothing = -torch.inf
    scores = torch.tensor([[0.2, 0.5, 0.5], [0.1, nothing, 0.3], [nothing, nothing, nothing]])
    assert worst(scores).tolist() == [1, 2, -1]
    assert worst(scores, at_least=0.5).tolist() == [1, -1, -1]
    assert worst(scores, at_least=nothing).tolist() == [1, 2, -1]
    assert worst(scores[:, :0]).tolist() == [-1, -1, -1]


def test_an_unknown_divergence_is_named() -> None:
    logits: Any = torch.zeros(1, 2)
    tokens, wrong = torch.tensor([0]), "symmetric"
    with pytest.raises(ValueError, match="one of 'forward', 'reverse', got 'symmetric'"):
        disagreement(logits, logits, tokens, divergence=wrong)  # type: ignore[arg-type]
