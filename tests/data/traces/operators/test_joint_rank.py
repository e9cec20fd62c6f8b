"""The hardest and longest traces are kept."""

from __future__ import annotations

from math import nan
from typing import Any

import pytest

from kdlight.data.traces import Trace, joint_rank
from tests.data.traces.operators.planted import planted


def test_at_its_ends_the_weight_gives_one_order() -> None:
    by_difficulty = joint_rank(planted(), weight=1.0, keep=0.2)
    assert {trace.difficulty for trace in by_difficulty} == {5.0}
    by_length = joint_rank(planted(), weight=0.0, keep=0.2)
    sizes = sorted((trace.n_tokens or 0 for trace in planted()), reverse=True)
    assert [trace.n_tokens for trace in by_length] == sizes[:200]


@pytest.mark.parametrize(
    ("number", "keep", "kept"),
    [(19, 0.1, 1), (20, 0.1, 2), (3, 0.1, 1), (0, 0.1, 0), (100, 0.29, 29)],
)
def test_the_number_is_rounded_down_but_not_to_none(number: int, keep: float, kept: int) -> None:
    traces = [Trace(f"{i}", "r", difficulty=i) for i in range(number)]
    chosen = joint_rank(traces, keep=keep)
    assert len(chosen) == kept
    assert sum(chosen.dropped.values()) == number - kept


def test_equal_values_have_equal_ranks() -> None:
    """A trace that is as hard as all others, and longer, comes first whatever its name."""
    traces = [
        Trace(name, "x" * size, difficulty=2) for name, size in (("a", 1), ("z", 2), ("b", 1))
    ]
    assert joint_rank(traces, weight=0.99, keep=0.34)[0].prompt == "z"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": 2.0}, r"weight must be in \[0, 1\]"),
        ({"weight": nan}, "weight must be a finite number"),
        ({"keep": nan}, "keep must be a finite number"),
        ({"keep": 0.0}, r"keep must be in \(0, 1\]"),
        ({"keep": "0.1"}, "keep must be a number"),
    ],
)
def test_bad_arguments_are_named_without_traces(options: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        joint_rank([], **options)


def test_traces_without_difficulty_are_refused() -> None:
    with pytest.raises(ValueError, match="no trace has a difficulty; fill it with kdlight traces"):
        joint_rank([Trace("p", "r")])
    kept = joint_rank([Trace("p", "r"), Trace("q", "r", difficulty=0.0)])
    assert [trace.prompt for trace in kept] == ["q"]
    assert kept.dropped == {"without difficulty": 1}
