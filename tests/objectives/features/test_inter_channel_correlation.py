"""Correlations of channels: a slow reference, the projector, errors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdlight.objectives import InterChannelCorrelation
from tests.losses.features.reference import REFERENCE
from tests.objectives.features.samples import PAIRS, feature_inputs, randn

COUNTS = torch.tensor([2, 0, 3])
MASK = torch.arange(4) < COUNTS[:, None]


def test_a_sample_counts_with_its_valid_positions() -> None:
    """Sizes of maps differ."""
    student, teacher = randn(3, 4, 2, 3), randn(3, 4, 5, seed=1)
    inputs = feature_inputs(student, teacher, logits=torch.zeros(3, 4, 7), mask=MASK)
    loss = InterChannelCorrelation(PAIRS)(inputs)
    values = REFERENCE["inter_channel_correlation"](student.numpy(), teacher.numpy())
    expected = (torch.from_numpy(values) * COUNTS).sum()
    torch.testing.assert_close(loss.total, expected, rtol=1e-12, atol=0)
    assert loss.count == 5


def test_the_channels_of_the_student_are_projected() -> None:
    """As by a 1 x 1 convolution."""
    objective = InterChannelCorrelation(PAIRS)
    objective.bind(
        nn.ModuleDict({"layer": nn.Conv2d(1, 3, 1)}),
        nn.ModuleDict({"teacher_layer": nn.Conv2d(1, 5, 1)}),
    )
    objective.double()
    student, teacher = randn(4, 3, 2, 3), randn(4, 5, 3, 3, seed=1)
    (weight,) = objective.parameters()
    mapped = torch.einsum("oc,bchw->bohw", weight.detach(), student)
    values = REFERENCE["inter_channel_correlation"](mapped.numpy(), teacher.numpy())
    loss = objective(feature_inputs(student, teacher))
    assert loss.total.item() == pytest.approx(values.sum(), rel=1e-12)
    assert torch.autograd.grad(loss.total, weight)[0].abs().max() > 1e-6


def test_what_does_not_fit_is_refused() -> None:
    objective = InterChannelCorrelation(PAIRS)
    with pytest.raises(ValueError, match=r"'layer' must be a map \(B, C, ...\), got \(2, 4\)"):
        objective(feature_inputs(randn(2, 4), randn(2, 4)))
    with pytest.raises(ValueError, match="has 4 channels, and that of the teacher 5; a projector"):
        objective(feature_inputs(randn(2, 4, 3), randn(2, 5, 3)))
    padding = torch.tensor([[True, False, False], [True, True, True]])
    inputs = feature_inputs(randn(2, 3, 4), randn(2, 3, 4), padding=padding)
    with pytest.raises(ValueError, match="'layer' is a sequence with padding"):
        objective(inputs)
