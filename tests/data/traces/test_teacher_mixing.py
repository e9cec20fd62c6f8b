"""Traces of several teachers are combined by score or by weight."""

from __future__ import annotations

from collections import Counter
from math import inf, nan
from typing import Any

import pytest

from kdlight.data.traces import (
    teacher_mix,
)
from tests.data.traces.planted import check_order_independence, planted

OPERATORS: dict[str, Any] = {
    "teacher_mix best": teacher_mix,
    "teacher_mix one": lambda t: teacher_mix(t, per_prompt="one"),
    "teacher_mix all": lambda t: teacher_mix(t, per_prompt="all"),
}
each = pytest.mark.parametrize("name", OPERATORS)


def test_teachers_are_mixed_by_weight() -> None:
    kept = teacher_mix(planted(), weights={"teacher 0": 3, "teacher 1": 1}, per_prompt="one")
    assert Counter(trace.teacher for trace in kept) == {"teacher 0": 150, "teacher 1": 50}
    assert {t.teacher for t in teacher_mix(planted(), weights={"teacher 1": 1})} == {"teacher 1"}
    best = teacher_mix(planted())
    assert len(best) == 200
    assert all(
        trace.score == 1 for trace in best if trace.prompt_id != "000" and int(trace.prompt_id) % 6
    )


@each
def test_the_order_of_the_traces_does_not_matter(name: str) -> None:
    check_order_independence(OPERATORS[name])


@each
def test_no_traces_give_no_traces(name: str) -> None:
    assert OPERATORS[name]([]) == []


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_a_second_application_changes_nothing(name: str) -> None:
    once = OPERATORS[name](planted())
    assert OPERATORS[name](once) == once


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: teacher_mix([], weights={"a": 0.0}), "weights must be above 0"),
    ],
)
def test_bad_input_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "options",
    [{"per_prompt": "first"}, {"weights": {"teacher 0": nan}}, {"weights": {"teacher 0": inf}}],
    ids=range(3),
)
def test_bad_arguments_are_named(options: Any) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(options))} must be "):
        teacher_mix(planted(), **options)
