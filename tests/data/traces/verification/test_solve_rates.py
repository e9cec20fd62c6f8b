"""Shares of solved prompts: of single answers, votes, and the shortest answers."""

from __future__ import annotations

import random
from typing import Any

import pytest

from kdlight.data.traces import Trace
from kdlight.data.traces.verification.solve_rates import (
    majority,
    number_key,
    solve_rates,
    text_key,
)


def said(
    prompt: str, *answers: tuple[str, int], right: str = "7", finished: bool = True
) -> list[Trace]:
    """Return answers of different lengths to a prompt."""
    return [
        Trace(prompt, text, score=float(text == right), n_tokens=n, finished=finished)
        for text, n in answers
    ]


MAJORITY_RIGHT = said("a", ("7", 9), ("7", 8), ("8", 1), ("9", 2))
SHORT_RIGHT = said("b", ("8", 9), ("8", 8), ("7", 1), ("7", 2), ("8", 7))
NONE_ENDS = said("c", ("7", 5), ("7", 5), finished=False)


def test_planted_rates() -> None:
    rates = solve_rates([*MAJORITY_RIGHT, *SHORT_RIGHT, *NONE_ENDS], shortest=2)
    assert rates.solve_rate == pytest.approx((0.5 + 0.4 + 0) / 3)
    assert rates.tokens_per_answer == pytest.approx((20 + 27 + 10) / 11)
    assert rates.unfinished == pytest.approx(2 / 11)
    assert rates.majority == pytest.approx(1 / 3)
    assert rates.short == pytest.approx(1 / 3)


def test_the_vote_of_all_answers_is_the_majority() -> None:
    for traces in (MAJORITY_RIGHT, SHORT_RIGHT):
        rates = solve_rates(traces, shortest=len(traces))
        assert rates.short == rates.majority


def test_one_answer_has_one_rate() -> None:
    for trace in (*MAJORITY_RIGHT, *SHORT_RIGHT, *NONE_ENDS):
        rates = solve_rates([trace], shortest=1)
        assert rates.solve_rate == rates.majority == rates.short


def test_the_order_of_the_answers_changes_nothing() -> None:
    traces = [*MAJORITY_RIGHT, *SHORT_RIGHT, *NONE_ENDS]
    expected = solve_rates(traces, shortest=2)
    for seed in range(5):
        random.Random(seed).shuffle(traces)
        assert solve_rates(traces, shortest=2) == expected


def test_ties_are_won_by_the_shortest_response() -> None:
    traces = said("a", ("7", 4), ("8", 3), ("7", 9), ("8", 9), ("9", 1))
    winner = majority(traces, text_key)
    assert winner is not None
    assert (winner.response, winner.n_tokens) == ("8", 3)


def test_an_answer_that_does_not_end_or_says_nothing_has_no_vote() -> None:
    assert majority([*NONE_ENDS, *said("c", ("", 1))], text_key) is None
    winner = majority([*NONE_ENDS, *said("c", ("", 1), ("8", 9))], text_key)
    assert winner is not None
    assert winner.response == "8"
    assert majority([], text_key) is None


@pytest.mark.parametrize(
    ("first", "second", "key", "same"),
    [
        ("7", "7.0", text_key, True),
        (r"\boxed{\frac{1}{2}}", "The answer is 0.5", text_key, True),
        ("I think\nParis", "paris.", text_key, True),
        ("Paris", "Rome", text_key, False),
        ("It is 7.", "7", text_key, False),
        ("It is 7.", "So 3 + 4 = 7", number_key, True),
        ("It is 7.", "It is 8.", number_key, False),
    ],
)
def test_what_is_the_same_answer(first: str, second: str, key: Any, same: bool) -> None:
    votes = [Trace("p", first, n_tokens=3), Trace("p", second, n_tokens=2)]
    votes += [Trace("p", "other 3", n_tokens=1)]
    winner = majority(votes, key)
    assert winner is not None
    assert (winner.response == second) is same


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one answer, got none"):
        solve_rates([])
    with pytest.raises(ValueError, match="has no score"):
        solve_rates([Trace("p", "7", n_tokens=1)])
    with pytest.raises(ValueError, match="has no length in tokens"):
        solve_rates([Trace("p", "7", score=1.0)])
    with pytest.raises(ValueError, match="the number of answers to a prompt, 2, got 3"):
        solve_rates([*MAJORITY_RIGHT, *NONE_ENDS], shortest=3)
    with pytest.raises(ValueError, match="shortest must be at least 1"):
        solve_rates(MAJORITY_RIGHT, shortest=0)
