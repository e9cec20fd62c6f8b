"""Rows divided among ranks: every rank has the loss and the gradients of all rows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.divided_rows import SOME, cases

CASES = cases()


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_ranks_equal_one_process(name: str, on_two: list[Any]) -> None:
    assert all(rank["deviations"][name] < 1e-10 for rank in on_two)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].objective in SOME])
def test_four_ranks_equal_one_process(name: str, on_four: list[Any]) -> None:
    assert all(rank["deviations"][name] < 1e-10 for rank in on_four)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["head", "detached teacher", "no_grad"])
def test_each_rank_evaluates_its_share(kind: str, on_two: list[Any], on_four: list[Any]) -> None:
    assert [rank["seen"][kind] for rank in on_two] == [5, 5]
    assert [rank["seen"][kind] for rank in on_four] == [2, 3, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        "logits",
        "function",
        "dropout",
        "trained teacher",
        "parts after the head",
        "parts of the loss",
    ],
)
def test_what_cannot_be_divided_is_evaluated_by_each_rank(kind: str, on_two: list[Any]) -> None:
    assert [rank["seen"][kind] for rank in on_two] == [10, 10]


@pytest.mark.slow
def test_a_teacher_that_ranks_have_parts_of_is_evaluated_by_all_of_them(
    on_two: list[Any], on_four: list[Any]
) -> None:
    for rank in (*on_two, *on_four):
        assert len(rank["parts_of_teachers"]) == 18
        assert max(rank["parts_of_teachers"].values()) < 1e-10, rank["parts_of_teachers"]


@pytest.mark.slow
def test_a_second_backward_pass_raises_on_all_ranks(on_two: list[Any]) -> None:
    for rank in on_two:
        assert "whose rows were divided among ranks, are used up" in rank["raised"]
