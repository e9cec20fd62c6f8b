"""Traces of several teachers are combined by score or by weight, and compared."""

from __future__ import annotations

from collections import Counter
from math import inf, nan
from typing import Any

import pytest

from kdlight.data.traces import Trace, summarize_teachers, teacher_mix
from tests.data.traces.operators.planted import planted


def test_teachers_share_prompts_by_weight() -> None:
    kept = teacher_mix(planted(), weights={"teacher 0": 3, "teacher 1": 1}, per_prompt="one")
    assert Counter(trace.teacher for trace in kept) == {"teacher 0": 150, "teacher 1": 50}
    assert len(teacher_mix(planted(), per_prompt="one")) == 200


def test_the_best_trace_of_a_prompt_is_correct_where_one_is() -> None:
    best = teacher_mix(planted())
    assert len(best) == 200
    assert all(trace.score == 1 for trace in best if int(trace.prompt_id) % 6)
    only = teacher_mix(planted(), teachers=["teacher 1"])
    assert {trace.teacher for trace in only} == {"teacher 1"}
    assert only.dropped == {"of another teacher": 600, "not the best": 200}


def test_perplexity_decides_where_all_traces_of_a_prompt_have_one() -> None:
    long, short = (
        Trace("p", "xx", score=1, perplexity=2.0),
        Trace("p", "x", score=1, perplexity=3.0),
    )
    assert teacher_mix([long, short]) == [long]
    unknown = Trace("p", "x", score=1)
    assert teacher_mix([long, unknown]) == [unknown]  # the shortest


@pytest.mark.parametrize("per_prompt", ["best", "one", "all"])
def test_a_second_application_changes_nothing(per_prompt: Any) -> None:
    once = teacher_mix(planted(), per_prompt=per_prompt)
    assert teacher_mix(once, per_prompt=per_prompt) == once


def test_the_report_compares_the_teachers() -> None:
    traces = [
        Trace(f"p{i % 5}", "x" * i, teacher=name, n_tokens=i, score=1.0, perplexity=ppl)
        for name, ppl in (("a", 2.0), ("b", None))
        for i in range(10 + 1)
    ]
    summary = summarize_teachers(traces)
    assert summary["a"] == (11, 5, 1.0, 9.0, 2.0)
    assert summary["b"].perplexity is None
    kept = teacher_mix(traces, per_prompt="all")
    assert kept.notes == [
        "a: 11 traces of 5 prompts, lengths 1 to 9, perplexity 2",
        "b: 11 traces of 5 prompts, lengths 1 to 9",
    ]


def test_a_trace_without_a_score_is_no_wrong_one() -> None:
    traces = [Trace("p", "unknown", teacher="a"), Trace("p", "known", teacher="b", score=0.1)]
    for per_prompt in ("best", "one"):
        with pytest.raises(ValueError, match="has no score, by which the best one is chosen"):
            teacher_mix([traces[0]], per_prompt=per_prompt)
    with pytest.raises(ValueError, match="has no score"):
        teacher_mix(traces)
    assert len(teacher_mix(traces, per_prompt="all")) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_prompt": "foo"}, "per_prompt must be one of 'one', 'best', 'all', got 'foo'"),
        ({"weights": {"teacher 0": nan}}, "weights must be a finite number"),
        ({"weights": {"teacher 0": inf}}, "weights must be a finite number"),
        ({"weights": {"teacher 0": 0.0}}, "weights must be above 0"),
        ({"weights": {}}, "weights must be above 0"),
        ({"weights": {"a": 3}}, "weights share out prompts with per_prompt='one'"),
        ({"weights": {"a": 3}, "per_prompt": "all"}, "weights share out prompts"),
        ({"teachers": []}, "teachers must be a list of names"),
        ({"teachers": "a"}, "teachers must be a list of names"),
        ({"teachers": 5}, "teachers must be a list of names"),
        ({"weights": [1], "per_prompt": "one"}, "weights must be a mapping of teachers"),
        (
            {"weights": {"a": 1}, "teachers": ["a", "b"], "per_prompt": "one"},
            "teachers and weights must name the same teachers",
        ),
    ],
    ids=range(12),
)
def test_bad_arguments_are_named_without_traces(options: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        teacher_mix([], **options)


@pytest.mark.parametrize("name", ["weights", "teachers"])
def test_an_unknown_teacher_is_named(name: str) -> None:
    names: Any = {"teacher 0": 1, "teacher 9": 1} if name == "weights" else ["teacher 9"]
    options: dict[str, Any] = {name: names, "per_prompt": "one"}
    with pytest.raises(ValueError, match=f"{name}: no trace is of the teacher 'teacher 9'; there"):
        teacher_mix(planted(), **options)
