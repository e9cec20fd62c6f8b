"""Results of ranks that divide rows: shares of several teachers, and errors of one rank."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.reduce.results import NUMBERS


@pytest.mark.slow
def test_shares_of_teachers_are_those_of_all_rows(on_two: list[Any], on_four: list[Any]) -> None:
    assert NUMBERS < 70  # some of these losses have more parts than that
    for rank in (*on_two, *on_four):
        assert len(rank["shares_of_teachers"]) == 54
        assert max(rank["shares_of_teachers"].values()) < 1e-6, rank["shares_of_teachers"]


@pytest.mark.slow
def test_an_error_on_the_rows_of_one_rank_is_one_on_all_ranks(
    on_two: list[Any], on_four: list[Any]
) -> None:
    for ranks in (on_two, on_four):
        for number, rank in enumerate(ranks):
            assert len(rank["failed"]) == 24
            for name, error in rank["failed"].items():
                failing = 0 if name.endswith("row 0") else len(ranks) - 1
                if number == failing:
                    assert error == "ValueError: an impossible label", name
                else:
                    expected = f"RuntimeError: rank {failing} of the {len(ranks)} ranks that divide"
                    assert error.startswith(expected), name
