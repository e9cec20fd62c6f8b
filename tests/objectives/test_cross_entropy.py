"""Cross-entropy with the labels, with and without positions of label -100."""

from __future__ import annotations

from math import log

import pytest
import torch
from torch import Tensor

from kdlight.objectives import CrossEntropy, LossInputs
from tests.support.objectives import grad, one_position


def test_the_loss_is_the_negative_log_probability_of_the_label() -> None:
    loss = CrossEntropy()(one_position((0.2, 0.8), label=0))
    assert loss.mean().item() == pytest.approx(-log(0.2))


def test_the_gradient_is_the_student_minus_the_label() -> None:
    inputs = one_position((0.2, 0.5, 0.3), label=1)
    expected = torch.tensor([[0.2, 0.5 - 1, 0.3]], dtype=torch.float64)
    torch.testing.assert_close(grad(CrossEntropy()(inputs), inputs), expected)


def test_a_teacher_changes_nothing(inputs: LossInputs) -> None:
    alone = LossInputs(inputs.student, None, inputs.labels, inputs.mask)
    assert CrossEntropy()(alone).total == CrossEntropy()(inputs).total


def test_an_unmasked_label_of_minus_100_has_no_loss_and_no_gradient(inputs: LossInputs) -> None:
    unmasked = LossInputs(inputs.student, None, inputs.labels)
    loss, masked = CrossEntropy()(unmasked), CrossEntropy()(inputs)
    torch.testing.assert_close(loss.total, masked.total)
    torch.testing.assert_close(grad(loss, unmasked), grad(masked, inputs))
    assert (loss.count, masked.count) == (10, 8)


def test_labels_are_needed(student: Tensor, teacher: Tensor) -> None:
    with pytest.raises(ValueError, match="CrossEntropy needs labels"):
        CrossEntropy()(LossInputs(student, teacher))
