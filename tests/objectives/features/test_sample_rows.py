"""Rows of samples: pooling, masks, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight.objectives.features.sample_rows import sample_rows
from tests.objectives.features.samples import feature_inputs, randn

PADDING = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 0]]).bool()
COUNTED = torch.tensor([True, False, True, True])


def rows(
    student: Tensor, teacher: Tensor, pooling: Any = "auto", **fields: Any
) -> tuple[Tensor, Tensor]:
    inputs = feature_inputs(student, teacher, **fields)
    return sample_rows(student, teacher, inputs, "layer", pooling)


def test_rows_are_themselves() -> None:
    student, teacher = randn(4, 3), randn(4, 5)
    for pooling in ("auto", "mean", "flatten"):
        assert torch.equal(rows(student, teacher, pooling)[0], student)
        assert torch.equal(rows(student, teacher, pooling, mask=COUNTED)[1], teacher[COUNTED])


def test_sequences_are_averaged_and_maps_flattened() -> None:
    sequence, image = randn(4, 3, 5), randn(4, 2, 3, 3)
    torch.testing.assert_close(rows(sequence, image)[0], sequence.mean(1))
    assert torch.equal(rows(sequence, image)[1], image.flatten(1))
    torch.testing.assert_close(rows(sequence, image, "mean")[1], image.mean((2, 3)))
    assert torch.equal(rows(sequence, image, "flatten")[0], sequence.flatten(1))


def test_padding_and_samples_without_a_valid_position_are_left_out() -> None:
    student, teacher = randn(4, 3, 5), randn(4, 3, 2, seed=1)
    student[~PADDING], teacher[~PADDING] = torch.nan, torch.inf
    found = rows(student, teacher, mask=COUNTED, padding=PADDING)
    for feature, actual in zip((student, teacher), found, strict=True):
        expected = [feature[0, :2].mean(0), feature[2].mean(0), feature[3, :2].mean(0)]
        torch.testing.assert_close(actual, torch.stack(expected))
    flat = rows(student, teacher, "flatten", padding=PADDING)[0].view(4, 3, 5)
    assert torch.equal(flat[PADDING], student[PADDING])
    assert not flat[~PADDING].any()


@pytest.mark.parametrize("shape", [(4, 3, 5), (4, 2, 3, 5)])
def test_positions_of_the_logits_are_masked_as_there(shape: tuple[int, ...]) -> None:
    """Of a sequence, those of an answer; of a map beside a map of logits, those with a label."""
    positions = shape[:2] if len(shape) == 3 else (4, 3, 5)
    feature, mask = randn(*shape), randn(*positions, seed=2) > 0
    mask[1] = False
    found = rows(feature, feature, "mean", logits=torch.zeros(*positions, 6), mask=mask)[0]
    channels_last = feature if len(shape) == 3 else feature.movedim(1, -1)
    expected = [x[m].mean(0) for x, m in zip(channels_last, mask, strict=True) if m.any()]
    torch.testing.assert_close(found, torch.stack(expected))


def test_half_precision_is_widened_before_the_mean() -> None:
    feature = torch.full((1, 300, 2), 300.0, dtype=torch.float16)  # a sum of 90,000
    for pooling in ("auto", "flatten"):
        ours, theirs = rows(feature, feature.float(), pooling)
        assert torch.equal(ours, theirs)
        assert ours.dtype == torch.float32


def test_resolutions_may_differ_without_masks() -> None:
    ours, theirs = rows(randn(4, 3, 5), randn(4, 6, 5), padding=torch.ones(4, 3).bool())
    assert (ours.shape, theirs.shape) == ((4, 5), (4, 5))
    with pytest.raises(ValueError, match=r"masked.*differ: \(4, 3\) and \(4, 6\); choose paths of"):
        rows(randn(4, 3, 5), randn(4, 6, 5), padding=PADDING)
    # only what is counted matters
    padding = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 1], [1, 1, 1]]).bool()
    assert rows(randn(4, 3, 5), randn(4, 6, 5), padding=padding, mask=COUNTED)[0].shape == (3, 5)


def test_features_must_have_samples() -> None:
    with pytest.raises(
        ValueError, match=r"of the teacher in the pair of 'layer' must be \(samples, \.\.\.\)"
    ):
        rows(randn(4, 3), randn(4))
    with pytest.raises(
        ValueError, match="of the student in the pair of 'layer' has shape .* 3 samples"
    ):
        rows(randn(4, 3), randn(4, 3), logits=torch.zeros(3, 5))
