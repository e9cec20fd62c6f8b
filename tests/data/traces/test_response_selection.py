"""Operators that select responses pick the planted ones."""

from __future__ import annotations

from collections import Counter
from math import nan
from typing import Any

import pytest

from kdlight.data.traces import (
    Trace,
    quality_filter,
    shortest_correct,
    verified_rejection,
)
from tests.data.traces.planted import check_order_independence, planted

OPERATORS: dict[str, Any] = {
    "verified_rejection": verified_rejection,
    "shortest_correct": shortest_correct,
    "quality_filter": lambda t: quality_filter(t, max_length=12),
}
each = pytest.mark.parametrize("name", OPERATORS)


def test_verified_rejection_drops_prompts_without_a_correct_trace() -> None:
    kept = verified_rejection(planted(), per_prompt=2)
    sides = {name: Counter[bool]() for name in {trace.prompt_id for trace in kept}}
    for trace in kept:
        sides[trace.prompt_id][trace.score == 1] += 1
    assert all(1 <= sides[name][True] <= 2 and sides[name][False] <= 2 for name in sides)
    assert "000" not in sides


def test_shortest_correct_picks_the_planted_trace() -> None:
    kept = shortest_correct(planted())
    assert {trace.response for trace in kept} == {"response 0"}
    assert len(kept) == sum(i % 6 >= 2 for i in range(200))  # one candidate is no choice
    assert len(shortest_correct(planted(), candidates=1)) == sum(i % 6 >= 1 for i in range(200))
    tie = [Trace("p", text, score=score, n_tokens=1) for text, score in (("b", 1), ("a", 0.95))]
    assert shortest_correct(tie)[0].response == "b"


def test_quality_filter_drops_repetition_and_high_perplexity() -> None:
    circle = Trace("p", "on and on " * 60)
    fine = Trace("p", " ".join(map(str, range(200))), teacher="t", perplexity=9.0)
    assert quality_filter([circle, fine]) == [fine]
    assert quality_filter([circle], repeats=10_000) == [circle]
    assert quality_filter([fine], max_perplexity={"t": 8.0}) == []
    assert quality_filter([fine], max_perplexity={"other": 8.0}) == [fine]


@each
def test_the_order_of_the_traces_does_not_matter(name: str) -> None:
    check_order_independence(OPERATORS[name])


@each
def test_no_traces_give_no_traces(name: str) -> None:
    assert OPERATORS[name]([]) == []


@pytest.mark.parametrize("name", ["quality_filter", "verified_rejection"])
def test_a_second_application_changes_nothing(name: str) -> None:
    once = OPERATORS[name](planted())
    assert OPERATORS[name](once) == once


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: verified_rejection([Trace("p", "r")]), "has no score; verify"),
    ],
)
def test_bad_input_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("operator", "options"),
    [
        (verified_rejection, {"per_prompt": -1}),
        (verified_rejection, {"per_prompt": 1.5}),
        (verified_rejection, {"threshold": nan}),
        (shortest_correct, {"n": 0}),
        (shortest_correct, {"candidates": 0}),
        (shortest_correct, {"threshold": nan}),
        (quality_filter, {"ngram": 0}),
        (quality_filter, {"repeats": -1}),
        (quality_filter, {"max_length": "5"}),
        (quality_filter, {"max_perplexity": nan}),
        (quality_filter, {"max_perplexity": {"teacher 1": nan}}),
    ],
    ids=range(11),
)
def test_bad_arguments_are_named(operator: Any, options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{next(iter(options))} must be "):
        operator(planted(), **options)
