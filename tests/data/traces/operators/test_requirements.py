"""What an operator needs and no trace has is named."""

from __future__ import annotations

import pytest

from kdlight.data.traces import Trace
from kdlight.data.traces.operators.requirements import check_teachers, with_difficulty


def test_teachers_must_be_there_where_there_are_traces() -> None:
    traces = [Trace("p", "r", teacher=name) for name in ("b", "a")]
    check_teachers("weights", ["a"], traces)
    check_teachers("weights", ["nobody"], [])
    with pytest.raises(ValueError, match="weights: no trace is of the teacher 'c', 'd'; there are"):
        check_teachers("weights", ["d", "a", "c"], traces)


def test_one_difficulty_is_enough() -> None:
    easy, unknown = Trace("p", "r", difficulty=0.0), Trace("q", "r")
    assert with_difficulty([unknown, easy]) == [easy]
    assert with_difficulty([]) == []
    with pytest.raises(ValueError, match="no trace has a difficulty"):
        with_difficulty([unknown])
