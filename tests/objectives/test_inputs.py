"""LossInputs: sources, valid positions, the teacher's mask, and the name of a position."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kdlight.objectives import LossInputs
from kdlight.sources import Dense, Mixture


def test_tensors_become_sources_and_sources_stay(student: Tensor, teacher: Tensor) -> None:
    source = Dense(teacher)
    inputs = LossInputs(student, source)
    assert isinstance(inputs.student, Dense)
    assert inputs.student.tensor is student
    assert inputs.teacher is source


def test_valid_positions_are_indices_of_flattened_ones(student: Tensor) -> None:
    mask = torch.zeros(2, 5, dtype=torch.bool)
    mask[0, 3], mask[1, 0] = True, True
    assert LossInputs(student, mask=mask).valid_positions().tolist() == [3, 5]
    assert LossInputs(student).valid_positions().tolist() == list(range(10))


def test_the_teacher_has_the_mask_of_the_student_on_the_same_positions(
    student: Tensor, teacher: Tensor
) -> None:
    mask, own = torch.rand(2, 5) < 0.5, torch.rand(2, 5) < 0.5
    assert LossInputs(student, teacher, mask=mask).valid_teacher_mask is mask
    assert LossInputs(student, teacher, mask=mask, teacher_mask=own).valid_teacher_mask is own
    # positions of another shape are all valid, unless the teacher has a mask
    assert LossInputs(student, teacher[:, :3], mask=mask).valid_teacher_mask is None
    assert LossInputs(student, mask=mask).valid_teacher_mask is None


def test_a_position_is_a_token_of_a_sequence_or_a_sample(student: Tensor) -> None:
    assert LossInputs(student).position_name == "token"
    assert LossInputs(student[0]).position_name == "sample"


def test_teachers_are_the_parts_of_a_combined_one(student: Tensor, teacher: Tensor) -> None:
    parts = Dense(teacher), Dense(-teacher)
    inputs = LossInputs(student, Mixture(parts, (0.5, 0.5), ("small", "large")))
    assert inputs.teachers == {"small": parts[0], "large": parts[1]}
    assert LossInputs(student, teacher).teachers == {}
    assert LossInputs(student).teachers == {}


@pytest.mark.parametrize("name", ["mask", "teacher_mask", "rejected"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.long])
def test_masks_are_boolean(name: str, dtype: torch.dtype) -> None:
    with pytest.raises(
        TypeError, match=f"{name} must be a boolean tensor, got {dtype}; pass {name} !="
    ):
        LossInputs(torch.zeros(2, 5), torch.zeros(2, 5), **{name: torch.ones(2, dtype=dtype)})  # type: ignore[arg-type]


def test_labels_of_a_regression_are_not_those_of_classes() -> None:
    labels = torch.zeros(2, dtype=torch.long)
    assert LossInputs(torch.zeros(2, 5), labels=labels).class_labels is labels
    assert LossInputs(torch.zeros(2, 5), labels=torch.zeros(2, 5)).class_labels is None
