"""The worst token of a generated response."""

from __future__ import annotations

import torch

from kdlight.callbacks.generation.errors import find_errors
from kdlight.objectives import LossInputs


def test_find_errors_ignores_positions_outside_of_the_responses() -> None:
    student, teacher = torch.zeros(2, 3, 5), torch.zeros(2, 3, 5)
    teacher[0, 0, 3], teacher[0, 1, 2], teacher[1, 2, 4] = 9.0, 4.0, 1.0
    mask = torch.tensor([[False, True, True], [False, False, False]])
    inputs = LossInputs(student, teacher, torch.ones(2, 3, dtype=torch.long), mask)
    errors = find_errors(inputs, divergence="forward", at_least=0.0)
    assert errors.position.tolist() == [1, -1]
    assert errors.token[0] == 2


def test_a_score_below_the_minimum_is_no_error() -> None:
    student, teacher = torch.zeros(1, 2, 5), torch.zeros(1, 2, 5)
    teacher[0, 0, 3], teacher[0, 1, 2] = 4.0, 1.0
    labels, mask = torch.ones(1, 2, dtype=torch.long), torch.ones(1, 2, dtype=torch.bool)
    inputs = LossInputs(student, teacher, labels, mask)
    errors = find_errors(inputs, divergence="reverse", at_least=0.0)
    assert errors.position.tolist() == [0]
    too_much = errors.score.item() + 0.1
    assert find_errors(inputs, divergence="reverse", at_least=too_much).position.tolist() == [-1]


def test_a_token_that_the_teacher_would_choose_is_no_error() -> None:
    student, teacher = torch.zeros(1, 2, 5), torch.zeros(1, 2, 5)
    teacher[0, :, 1] = 9.0
    labels, mask = torch.ones(1, 2, dtype=torch.long), torch.ones(1, 2, dtype=torch.bool)
    inputs = LossInputs(student, teacher, labels, mask)
    assert find_errors(inputs, divergence="forward", at_least=0.0).position.tolist() == [-1]
