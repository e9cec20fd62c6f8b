"""What a gate reads of a batch, and to which row a position belongs."""

from __future__ import annotations

import pytest
import torch

from kdlight.objectives import LossInputs
from kdlight.objectives.fusion.gate_rows import gate_rows, row_of_each_position


def test_rows_of_a_classifier_are_its_valid_logits() -> None:
    logits = torch.randn(4, 3)
    assert torch.equal(gate_rows(LossInputs(logits), "student"), logits)
    mask = torch.tensor([True, False, True, True])
    assert torch.equal(gate_rows(LossInputs(logits, mask=mask), "student"), logits[mask])


def test_classes_that_the_student_forbids_are_not_read() -> None:
    logits = torch.randn(4, 3)
    logits[:, 1] = -torch.inf
    rows = gate_rows(LossInputs(logits), "student")
    assert torch.equal(rows, logits.masked_fill(logits.isinf(), 0.0))


def test_logits_of_sequences_are_refused() -> None:
    message = r"one row of logits for each sample, .* \(2, 3, 5\); give the path"
    with pytest.raises(ValueError, match=message):
        gate_rows(LossInputs(torch.zeros(2, 3, 5)), "student")


def test_a_row_of_a_sequence_is_the_mean_over_its_valid_positions() -> None:
    hidden, mask = torch.randn(3, 4, 6), torch.zeros(3, 4, dtype=torch.bool)
    mask[0, :2] = mask[2, 1:] = True
    hidden[1], hidden[0, 2:] = torch.nan, torch.inf  # what is not valid is not read
    inputs = LossInputs(torch.zeros(3, 4, 5), mask=mask, student_features={"a": hidden})
    expected = torch.stack([hidden[0, :2].mean(0), hidden[2, 1:].mean(0)])
    torch.testing.assert_close(gate_rows(inputs, "a"), expected)
    assert row_of_each_position(inputs).tolist() == [0, 0, 1, 1, 1]


def test_a_row_of_an_image_has_all_of_its_entries() -> None:
    images = torch.randn(3, 1, 4, 4)
    inputs = LossInputs(torch.zeros(3, 5), student_features={"net:input": images})
    assert torch.equal(gate_rows(inputs, "net:input"), images.flatten(1))
    torch.testing.assert_close(gate_rows(inputs, "net:input", "mean"), images.mean((2, 3)))
    assert row_of_each_position(inputs).tolist() == [0, 1, 2]


def test_a_feature_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match=r"no feature 'a' of the student, .*student_features="):
        gate_rows(LossInputs(torch.zeros(3, 5)), "a")
