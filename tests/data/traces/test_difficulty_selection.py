"""Operators that select prompts by difficulty pick the planted ones."""

from __future__ import annotations

from collections import Counter
from math import nan
from typing import Any

import pytest

from kdlight.data.traces import (
    Trace,
    adaptive_difficulty,
    joint_rank,
    pass_rate_band,
)
from tests.data.traces.planted import check_order_independence, planted

OPERATORS: dict[str, Any] = {
    "joint_rank": lambda t: joint_rank(t, keep=0.1),
    "pass_rate_band": pass_rate_band,
    "adaptive_difficulty": lambda t: adaptive_difficulty(t, total=30),
}
each = pytest.mark.parametrize("name", OPERATORS)


def test_joint_rank_at_its_ends_is_one_order() -> None:
    by_difficulty = joint_rank(planted(), weight=1.0, keep=0.2)
    assert {trace.difficulty for trace in by_difficulty} == {5.0}
    by_length = joint_rank(planted(), weight=0.0, keep=0.2)
    lengths = sorted((trace.length for trace in planted()), reverse=True)
    assert [trace.length for trace in by_length] == lengths[:200]


def test_adaptive_difficulty_has_the_wanted_distribution() -> None:
    kept = adaptive_difficulty(planted(), total=61, weights=(5, 4, 3, 2, 1))
    levels = Counter(trace.difficulty for trace in kept)
    wanted = {float(k): 61 * w / 15 for k, w in enumerate((5, 4, 3, 2, 1), start=1)}
    assert sum(levels.values()) == 61 * 5
    assert all(abs(levels[level] / 5 - wanted[level]) < 1 for level in wanted)
    again = adaptive_difficulty(planted(), total=61, seed=1)
    assert again != kept
    solved = {f"{i:03}": True for i in range(200)}
    levels_asked = {t.difficulty for t in adaptive_difficulty(planted(), total=9, solved=solved)}
    assert levels_asked - {1.0}  # all prompts are of level 1 then, whatever their own


def test_pass_rate_band_drops_always_and_never() -> None:
    kept = {int(trace.prompt_id) % 6 for trace in pass_rate_band(planted())}
    assert kept == {1, 2, 3, 4}
    assert {int(t.prompt_id) % 6 for t in pass_rate_band(planted(), low=0.3, high=0.7)} == {2, 3}
    assert len(pass_rate_band(planted(), inclusive=True)) == 1000


@each
def test_the_order_of_the_traces_does_not_matter(name: str) -> None:
    check_order_independence(OPERATORS[name])


@each
def test_no_traces_give_no_traces(name: str) -> None:
    assert OPERATORS[name]([]) == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: joint_rank([Trace("p", "r")]), "has no difficulty"),
        (lambda: joint_rank([], weight=2.0), r"weight must be in \[0, 1\]"),
        (lambda: adaptive_difficulty([], total=1, weights=(0.0,)), "not all 0"),
    ],
)
def test_bad_input_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("operator", "options"),
    [
        (pass_rate_band, {"low": nan}),
        (pass_rate_band, {"high": "1"}),
        (pass_rate_band, {"threshold": nan}),
        (joint_rank, {"keep": nan}),
        (adaptive_difficulty, {"total": -1}),
        (adaptive_difficulty, {"total": 2.5}),
        (adaptive_difficulty, {"weights": (1.0, nan), "total": 3}),
        (adaptive_difficulty, {"seed": "a", "total": 3}),
    ],
    ids=range(8),
)
def test_bad_arguments_are_named(operator: Any, options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{next(iter(options))} must be "):
        operator(planted(), **options)
