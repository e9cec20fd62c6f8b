"""Verdicts of several verifiers become scores."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.data.traces.open_r1 import open_r1, why_left_out

ROW = {"problem": "q", "generations": ["a", "b"]}


@pytest.mark.parametrize(
    ("verdicts", "scores"),
    [
        ({"correctness_x": [0.3, 1]}, [0.3, 1.0]),
        ({"correctness_x": [True, True], "correctness": {"y": [0.5, None]}}, [0.5, 0.0]),
        ({"correctness_x": [-1, 0.95]}, [-1.0, 0.95]),
        ({"correctness_count": 2}, [None, None]),
    ],
    ids=range(4),
)
def test_a_score_is_the_least_verdict(verdicts: dict[str, Any], scores: list[float]) -> None:
    """A part of a verdict is not a right one; a threshold decides later."""
    assert [trace.score for trace in open_r1({**ROW, **verdicts})] == scores


def test_a_row_with_a_reason_has_no_traces() -> None:
    for more in ({"problem_is_valid": "No"}, {"correctness_x": [True]}, {"generations": []}):
        assert list(open_r1({**ROW, **more})) == []
        assert why_left_out({**ROW, **more})
    assert why_left_out(ROW) == ""


def test_other_fields_and_numbers_are_kept_in_meta() -> None:
    traces = list(open_r1({**ROW, "source": "s", "meta": {"generation": 9}}))
    assert [trace.meta for trace in traces] == [{"source": "s", "generation": i} for i in (0, 1)]
