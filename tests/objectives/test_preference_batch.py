"""PreferenceBatch: chosen and rejected sequences, their positions, and short rejected ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kdlight.objectives import LossInputs
from kdlight.objectives.preference_batch import PreferenceBatch, check_preferences


def batch(lengths: list[int], rejected: list[bool] | None) -> PreferenceBatch:
    mask = torch.arange(8) < torch.tensor(lengths)[:, None]
    flags = None if rejected is None else torch.tensor(rejected)
    student = torch.zeros(len(lengths), 8, 3)
    return PreferenceBatch.of(LossInputs(student, mask=mask, rejected=flags))


def test_a_sequence_without_a_valid_position_is_neither() -> None:
    preferences = batch([3, 0, 2, 0], [False, False, True, True])
    assert preferences.lengths.tolist() == [3, 0, 2, 0]
    assert preferences.chosen.tolist() == [True, False, False, False]
    assert preferences.rejected.tolist() == [False, False, True, False]


def test_without_rejected_all_are_chosen() -> None:
    preferences = batch([3, 0, 2], None)
    assert preferences.chosen.tolist() == [True, False, True]
    assert not preferences.rejected.any()


def test_without_a_mask_all_positions_are_valid() -> None:
    labels = torch.zeros(2, 4, dtype=torch.long)
    preferences = PreferenceBatch.of(LossInputs(torch.zeros(2, 4, 3), labels=labels))
    assert preferences.mask.all()
    assert preferences.lengths.tolist() == [4, 4]


def test_positions_are_those_of_some_sequences() -> None:
    preferences = batch([3, 2, 4], [False, True, False])
    positions = preferences.positions(preferences.chosen)
    assert positions.sum(-1).tolist() == [3, 0, 4]
    assert (positions & ~preferences.mask).sum() == 0


@pytest.mark.parametrize(
    ("lengths", "rejected", "alpha", "short"),
    [
        ([4, 3, 4, 4], [False, True, False, True], 1.0, 1),  # 3 < 4, and 4 is not below 4
        ([4, 3, 4, 4], [False, True, False, True], 0.5, 0),  # none is below 2
        ([2, 6, 3, 5], [False, False, True, True], 1.0, 1),  # pairs (2, 3) and (6, 5)
        ([2, 6, 3], [False, False, True], 1.0, 1),  # no pairs: 3 is below the mean of 4
        ([3, 2], [True, True], 1.0, 0),  # nothing to compare with
    ],
)
def test_short_rejected_sequences_are_counted(
    lengths: list[int], rejected: list[bool], alpha: float, short: int
) -> None:
    assert batch(lengths, rejected).short_rejected(alpha) == short


@pytest.mark.parametrize(
    ("logits", "rejected", "message"),
    [
        (torch.zeros(3, 5), None, r"Name compares whole sequences.*\(B, T\), got \(3,\)"),
        (torch.zeros(2, 3, 5), torch.zeros(3).bool(), r"one boolean per sequence.*\(2,\), got"),
        (torch.zeros(2, 3, 5), torch.zeros(2, 3).bool(), r"got torch.bool of shape \(2, 3\)"),
    ],
)
def test_what_does_not_fit_is_named(logits: Tensor, rejected: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_preferences(LossInputs(logits, rejected=rejected), "Name")
