"""The samples that count."""

from __future__ import annotations

import pytest
import torch

from kdlight.objectives.features.selected_samples import check_no_padding, selected_samples
from tests.objectives.features.samples import feature_inputs, randn


def test_samples_are_selected_with_their_numbers_of_valid_positions() -> None:
    student, teacher = randn(3, 2, 4), randn(3, 5, seed=1)
    mask = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0]]).bool()
    inputs = feature_inputs(student, teacher, logits=torch.zeros(3, 3, 5), mask=mask)
    ours, theirs, counts = selected_samples(student, teacher, inputs, "layer")
    assert torch.equal(ours, student[[0, 2]])
    assert torch.equal(theirs, teacher[[0, 2]])
    assert counts.tolist() == [2, 1]


def test_other_numbers_of_samples_are_refused() -> None:
    two, three = randn(2, 4), randn(3, 4)
    for student, teacher, side in ((two, three, "student"), (three, two, "teacher")):
        inputs = feature_inputs(student, teacher, logits=torch.zeros(3, 5))
        with pytest.raises(
            ValueError, match=rf"the {side} in the pair of 'layer' has shape \(2, 4\), and"
        ):
            selected_samples(student, teacher, inputs, "layer")


def test_padding_is_refused_only_where_there_is_some() -> None:
    feature, mask = randn(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)
    check_no_padding(feature_inputs(feature, feature), "layer")
    check_no_padding(feature_inputs(feature, feature, padding=mask), "layer")
    mask[1, 2] = False
    with pytest.raises(ValueError, match="'layer' is a sequence with padding, and a map"):
        check_no_padding(feature_inputs(feature, feature, padding=mask), "layer")
