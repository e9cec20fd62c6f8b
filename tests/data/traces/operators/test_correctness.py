"""The correct, and the shortest correct responses, are the planted ones."""

from __future__ import annotations

from collections import Counter
from math import nan
from typing import Any

import pytest

from kdlight.data.traces import (
    Trace,
    shortest_correct,
    verified_rejection,
)
from tests.data.traces.operators.planted import planted


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


def test_a_second_application_changes_nothing() -> None:
    once = verified_rejection(planted())
    assert verified_rejection(once) == once


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
    ],
    ids=range(6),
)
def test_bad_arguments_are_named(operator: Any, options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{next(iter(options))} must be "):
        operator(planted(), **options)
