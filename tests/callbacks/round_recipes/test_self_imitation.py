"""The student's own answers are added if the critic accepts them."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.callbacks import SelfImitationRound
from kdlight.data.traces import Trace, number
from tests.support.round_work import learned, work

__all__ = ["learned"]  # the fixture


def test_what_is_accepted_is_right_and_nothing_else_is_left_out(learned: Any) -> None:
    one = work(learned)
    made = SelfImitationRound("number", samples=3).run(one)
    assert 0 < len(made) < 3 * len(one.prompts)
    assert all(number(trace) and trace.finished for trace in made)
    assert {trace.meta["origin"]["author"] for trace in made} == {"student"}
    assert one.figures["accepted"] == len(made) / (3 * len(one.prompts))
    lines = (one.folder / "student.jsonl").read_text().splitlines()
    assert sum('"score": 1.0' in line for line in lines) == len(made)
    assert one.outcome.startswith(f"{len(made)} of {3 * len(one.prompts)} answers")


def test_the_threshold_decides(learned: Any) -> None:
    def length(trace: Trace) -> float:
        return len(trace.response) / 2

    made = SelfImitationRound(length, threshold=1.0, samples=2).run(work(learned))
    assert made
    assert all(len(trace.response) >= 2 for trace in made)


def test_unfinished_answers_are_not_added_whatever_the_scores_are(learned: Any) -> None:
    made = SelfImitationRound(lambda trace: -5.0, threshold=-9.0, samples=2).run(work(learned))
    assert made
    assert all(trace.finished for trace in made)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"critic": "no such"}, ValueError, "no verifier 'no such'"),
        ({"samples": 0}, ValueError, "samples must be at least 1, got 0"),
        ({"threshold": "high"}, TypeError, "threshold"),
        ({"threshold": float("nan")}, ValueError, "threshold"),
    ],
    ids=["critic", "samples", "text", "nan"],
)
def test_arguments_are_checked(options: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        SelfImitationRound(**{"critic": "number", **options})
