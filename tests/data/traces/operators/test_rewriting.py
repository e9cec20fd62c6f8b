"""A rewritten response is used if and only if it is right and shorter."""

from __future__ import annotations

import random
from typing import Any

import pytest

from kdlight.data.traces import Trace, rewrite
from tests.data.traces.operators.planted import planted

OWN = "tests.data.traces.operators.own_functions"


def rewriter(trace: Trace) -> str | None:
    return trace.meta["other"]


def traces_with(*rows: tuple[str, str | None, Any]) -> list[Trace]:
    return [
        Trace(f"q{i}", response, prompt_id=f"{i}", answer=answer, n_tokens=7, meta={"other": other})
        for i, (response, other, answer) in enumerate(rows)
    ]


def test_only_right_and_shorter_responses_are_used() -> None:
    traces = traces_with(
        ("Let us see: 2", "2", 2),
        ("Let us see: 2", "3", 2),  # not right
        ("2", "It is 2", 2),  # not shorter
        ("It is 2", "It is 2", 2),  # the same
        ("It is 2", None, 2),
        ("It is 2", " ", 2),
        ("It is 5", "2", 2),  # the first response is wrong
    )
    kept = rewrite(traces, rewriter, "number")
    assert [t.response for t in kept] == ["2", *(t.response for t in traces[1:6]), "2"]
    assert kept[1:6] == traces[1:6]
    assert [t.score for t in kept] == [1.0, None, None, None, None, None, 1.0]
    assert [t.n_tokens for t in (kept[0], kept[1])] == [None, 7]
    assert sorted(kept.notes) == [
        "kept, no other response: 2",
        "kept, not shorter: 2",
        "kept, the other response is not correct: 1",
        "rewritten: 2",
    ]
    assert not kept.dropped


def test_a_verifier_is_asked_for_no_longer_response() -> None:
    asked: list[str] = []
    traces = traces_with(("2", "It is 2", 2), ("Is it 2", "2", 2))
    rewrite(traces, rewriter, lambda trace: bool(asked.append(trace.response)))
    assert asked == ["2"]


def test_a_second_application_changes_nothing() -> None:
    once = rewrite(planted(), fn=f"{OWN}:shorten", verify=f"{OWN}:is_even")
    assert sum(len(t.response) == 1 for t in once) == 600  # of k = 0, 2, 4
    assert rewrite(once, fn=f"{OWN}:shorten", verify=f"{OWN}:is_even") == once


def test_the_order_of_the_traces_does_not_matter() -> None:
    traces = traces_with(*[("Let us see: 2", str(i % 4), 2) for i in range(30)])
    expected = rewrite(traces, rewriter, "number")
    shuffled = random.Random(0).sample(traces, len(traces))
    assert rewrite(shuffled, rewriter, "number") == expected


def test_an_unfinished_response_may_be_rewritten() -> None:
    trace = Trace("q", "Let us see, the", answer=2, finished=False, meta={"other": "2"})
    kept = rewrite([trace], rewriter, "number")
    assert (kept[0].response, kept[0].finished, kept[0].score) == ("2", True, 1.0)


def test_the_threshold_decides_what_is_right() -> None:
    (trace,) = traces_with(("Let us see: 2", "2", 2))
    assert rewrite([trace], rewriter, lambda _: 0.5)[0] == trace
    assert rewrite([trace], rewriter, lambda _: 0.5, threshold=0.5)[0].response == "2"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fn": 5}, "fn must be a function"),
        ({"fn": "nobody"}, "no function fn 'nobody'"),
        ({"verify": None}, "verify must be a verifier"),
        ({"verify": "nobody"}, "no verifier 'nobody'"),
        ({"threshold": float("nan")}, "threshold must be a finite number"),
        ({"threshold": "1"}, "threshold must be a number"),
    ],
    ids=range(6),
)
def test_bad_arguments_are_named_without_traces(options: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        rewrite([], **{"fn": rewriter, "verify": "number", **options})


def test_what_fails_on_a_trace_is_named() -> None:
    traces = traces_with(("Let us see: 2", "2", None))
    with pytest.raises(ValueError, match="fn failed on a trace of prompt '0': KeyError"):
        rewrite([Trace("q", "2", prompt_id="0")], rewriter, "number")
    with pytest.raises(ValueError, match="the verifier failed on a trace of prompt '0'"):
        rewrite(traces, rewriter, "number")
    hidden = Trace("q", "2", response_fields={"reasoning_content": "One."}, meta={"other": ""})
    with pytest.raises(ValueError, match="rewrite needs responses that are texts"):
        rewrite([hidden], rewriter, "number")
