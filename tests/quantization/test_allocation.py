"""Points are given to the weights with the larger gradients."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdlight.quantization import allocate_points
from tests.quantization.vectors import load


def test_numbers_are_those_of_the_authors() -> None:
    vector, numbers = load("bitassign_a")
    assert numbers["input_is_point"]
    found = allocate_points(vector["grad_norms"].tolist(), vector["points_per_tensor"].tolist())
    assert found == vector["expected_points"].tolist()


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(2, 300)), min_size=1, max_size=40))
def test_the_total_stays_and_every_weight_keeps_a_point(pairs: list[tuple[float, int]]) -> None:
    norms, points = zip(*pairs, strict=True)
    found = allocate_points(norms, points)
    assert sum(found) == sum(points)
    assert min(found) >= 1


def test_equal_gradients_change_nothing() -> None:
    assert allocate_points([2.0] * 4, [16] * 4) == [16] * 4
    assert allocate_points([0.0] * 4, [16] * 4) == [16] * 4


def test_what_rounding_leaves_over_is_taken_from_the_most() -> None:
    # 2 + 5/3, 2 + 5/3, 1 + 5/3 are rounded to 4, 4, 3, one too many
    assert allocate_points([1.0, 1.0, 1.0], [4, 4, 2]) == [3, 4, 3]


def test_what_rounding_lacks_is_given_to_the_fewest() -> None:
    # 1 + 5/4, 2 + 5/4, 2 + 5/2 are rounded to 2, 3, 4, one too few
    assert allocate_points([1.0, 1.0, 2.0], [2, 4, 4]) == [3, 3, 4]


def test_the_most_is_not_emptied_where_many_weights_have_few_points() -> None:
    # rounded to 2 and 3 points, 49 too many, and no weight has that many
    found = allocate_points([0.51] * 51 + [1.51] * 49, [2] * 100)
    assert sum(found) == 200
    assert min(found) == 1


@pytest.mark.parametrize(
    ("norms", "points", "words"),
    [
        ([], [], "a number for each weight, got 0 and 0"),
        ([1.0], [4, 4], "a number for each weight, got 1 and 2"),
        ([1.0, -1.0], [4, 4], "finite and not negative, got -1.0"),
        ([1.0, float("nan")], [4, 4], "finite and not negative, got nan"),
        ([1.0], [1], "points must be at least 2, got 1"),
    ],
)
def test_arguments_are_checked(norms: list[float], points: list[int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        allocate_points(norms, points)
