"""What features may be, and what is said about others."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight.losses.features.inputs import check_batch, check_maps, check_rows, feature_pair


@pytest.mark.parametrize(
    ("one", "other", "result"),
    [
        (torch.float16, torch.float16, torch.float32),
        (torch.float16, torch.bfloat16, torch.float32),
        (torch.float32, torch.bfloat16, torch.float32),
        (torch.bfloat16, torch.float64, torch.float64),
    ],
)
def test_both_sides_get_the_wider_type(one: Any, other: Any, result: Any) -> None:
    features = feature_pair(torch.ones(2, dtype=one), torch.ones(3, dtype=other))
    assert [x.dtype for x in features] == [result] * 2
    assert [x.tolist() for x in features] == [[1, 1], [1, 1, 1]]


def test_only_floating_point_is_a_feature() -> None:
    with pytest.raises(TypeError, match="teacher features must be floating point, got torch.bool"):
        feature_pair(torch.zeros(2), torch.zeros(2).bool())


@pytest.mark.parametrize(
    ("check", "student", "teacher", "said"),
    [
        (check_rows, (2, 3, 4), (2, 3), r"student features must be rows \(B, D\), got .*2, 3, 4"),
        (check_rows, (2, 3), (3,), r"teacher features must be rows \(B, D\), got shape \(3,\)"),
        (check_rows, (2, 3), (4, 3), r"of the same samples, got shapes \(2, 3\) and \(4, 3\)"),
        (
            check_rows,
            (2, 3),
            (2, 0),
            r"teacher features .* at least one entry .*got shape \(2, 0\)",
        ),
        (check_maps, (2, 3), (2, 3, 4), r"student features must be maps .* got shape \(2, 3\)"),
        (check_maps, (2, 3, 4), (1, 3, 4), r"of the same samples"),
        (check_maps, (2, 3, 0), (2, 3, 4), r"student features .* at least one entry"),
        (check_batch, (2,), (2, 3), r"student features must have a batch axis"),
    ],
)
def test_other_shapes_are_refused(check: Any, student: Any, teacher: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check(torch.zeros(student), torch.zeros(teacher))


def test_widths_and_sizes_may_differ_and_a_batch_may_be_empty() -> None:
    check_rows(torch.zeros(0, 3), torch.zeros(0, 5))
    check_maps(torch.zeros(2, 3, 4), torch.zeros(2, 5, 1, 1))
    check_batch(torch.zeros(2, 3), torch.zeros(2, 5, 1, 1))
