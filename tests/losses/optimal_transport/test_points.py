"""The points of transport problems, and their grouping."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight.losses.optimal_transport.points import (
    GEOMETRIES,
    Points,
    check_widths,
    points,
    problems,
    sequences,
)

SHAPE = torch.Size([2, 3, 5])
MASK = torch.tensor([[1, 0, 1], [0, 0, 1]]).bool()
INDICES = {"batch": [[0, 2, 5]], "sequence": [[0, 2], [5]], "position": [[0], [], [2, 5]]}


def positions(each: Points) -> list[int]:
    every = torch.arange(6)
    found: Tensor = every if each.index is None else every[each.index]
    assert len(found) == each.count
    return found.tolist()


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_points_are_the_valid_positions_of_each_problem(geometry: str) -> None:
    masked = points(SHAPE, MASK, geometry=geometry)
    assert [positions(each) for each in masked] == INDICES[geometry]
    alike = [points(SHAPE, mask, geometry=geometry) for mask in (None, torch.ones(2, 3).bool())]
    assert list(map(positions, alike[0])) == list(map(positions, alike[1]))


def test_a_problem_without_points_on_a_side_is_left_out() -> None:
    other = torch.tensor([[1, 1, 0], [1, 0, 0]]).bool()
    for mask, expected in ((None, INDICES["position"]), (other, [[0]])):
        pairs = problems(SHAPE, SHAPE, MASK, mask, geometry="position")
        assert [positions(one) for one, _ in pairs] == [each for each in expected if each]
    assert problems(SHAPE, SHAPE, MASK & False) == []


def test_the_teacher_shares_a_mask_only_where_it_shares_the_positions() -> None:
    ((_, teacher),) = problems(SHAPE, torch.Size([2, 3, 9]), MASK)
    assert teacher.count == 3
    ((_, teacher),) = problems(SHAPE, torch.Size([2, 4, 5]), MASK)
    assert teacher == (None, 8)


def test_a_single_sequence_needs_no_batch_axis() -> None:
    for shape, mask in ((SHAPE[1:], MASK[0]), (torch.Size([1, 3, 5]), MASK[:1])):
        (one,) = sequences(shape, mask)
        assert (one.count, positions(one)) == (2, [0, 2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: points(SHAPE, MASK.T),
            r"^mask must have .*student's positions, \(2, 3\), got \(3",
        ),
        (lambda: points(SHAPE, MASK.T, side="teacher"), "^teacher_mask must have .*teacher's pos"),
        (
            lambda: points(SHAPE[1:], None, geometry="sequence"),
            r"got \(3, 5\) for the student; use",
        ),
        (
            lambda: problems(SHAPE, torch.Size([2, 4, 5]), geometry="position"),
            "pairs the 3 problems of the student .* has 4; use geometry='batch'",
        ),
        (lambda: check_widths(7, 6), "vocabularies differ: 7 and 6 entries.*losses.uld"),
    ],
)
def test_what_does_not_fit_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
