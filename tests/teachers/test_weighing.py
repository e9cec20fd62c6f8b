"""Weights in a field of the data: their shapes, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight.teachers.weighing import Weighing, read_field, weights_at_positions, without_field

NAMES, POSITIONS = ["a", "b"], torch.Size([2, 3])


def weights(values: Any, labels: torch.Tensor | None = None) -> torch.Tensor:
    return weights_at_positions("w", values, NAMES, POSITIONS, labels)


def test_weights_are_divided_by_their_sum() -> None:
    rows = weights(torch.tensor([[3, 1], [0, 2]]))
    assert rows.shape == (2, 3, 2)
    assert rows[:, 2].tolist() == [[0.75, 0.25], [0.0, 1.0]]
    each = torch.rand(2, 3, 2).double()
    assert torch.equal(weights(each), each / each.sum(-1, keepdim=True))
    assert weights(torch.ones(2, 3, 2, dtype=torch.float16)).dtype == torch.float32


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ([0.5, -0.5], r"\[0.5, -0.5\]"),
        ([0.0, 0.0], r"\[0.0, 0.0\]"),
        ([float("nan"), 1.0], r"\[nan, 1.0\]"),
        ([float("inf"), 1.0], r"\[inf, 1.0\]"),
    ],
)
def test_weights_out_of_range_are_refused(row: list[float], shown: str) -> None:
    values = torch.ones(2, 3, 2)
    values[1, 2] = torch.tensor(row)
    with pytest.raises(ValueError, match=rf"'w' of the batch must be.* got {shown} in row 1, pos"):
        weights(values)
    labels = torch.zeros(2, 3, dtype=torch.long)
    labels[1, 2] = -100
    assert weights(values, labels)[1, 2].tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("values", "got"),
    [
        (torch.ones(2), r"\(2,\)"),
        (torch.ones(2, 3), r"\(2, 3\)"),
        (torch.ones(3, 2), r"\(3, 2\)"),
        ([0.5, 0.5], "list"),
    ],
)
def test_other_shapes_are_refused(values: Any, got: str) -> None:
    with pytest.raises(ValueError, match=rf"a tensor \(2, 2\) or \(2, 3, 2\), got {got}"):
        weights(values)


def test_a_field_is_read_by_name() -> None:
    assert read_field({"w": 1}, "w", "weigh_by") == 1
    assert without_field([1, 2], "w") == [1, 2]
    with pytest.raises(ValueError, match=r"'confidance' is not a field .* has \['x'\]; or set"):
        read_field({"x": 1}, "confidance", "weigh_by")
    with pytest.raises(ValueError, match="a list without names; or set 'confidence'"):
        read_field([torch.ones(1)], "w", "weigh_by")


def test_only_entropy_needs_no_labels() -> None:
    rules = {rule: Weighing(rule, NAMES) for rule in ("entropy", "confidence", "w")}
    assert [each.needs_labels for each in rules.values()] == [False, True, True]
    assert [each.field for each in rules.values()] == [None, None, "w"]
    rules["w"].check_labels("none")  # weights of rows need none
    with pytest.raises(ValueError, match="use weigh_by='entropy'"):
        rules["confidence"].check_labels("none")
