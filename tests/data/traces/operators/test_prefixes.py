"""A response is cut after the first steps that suffice."""

from __future__ import annotations

import random
from typing import Any

import pytest

from kdlight.data.traces import Trace, shortest_prefix

STEPS = [f"Step {n} of a long way to the goal.\n\n" for n in range(5)]


def planted(enough: int, name: str = "q", score: float | None = None) -> Trace:
    """Return a trace whose answer is right after that many steps."""
    return Trace(
        name,
        "".join(STEPS) + "So it is 2",
        prompt_id=name,
        answer=2,
        score=score,
        n_tokens=50,
        meta={"enough": enough},
    )


def answer(trace: Trace, start: str) -> str:
    steps = start.count("\n\n")
    assert start == "".join(STEPS[:steps])
    return f"It is {2 if steps >= trace.meta['enough'] else 3}"


@pytest.mark.parametrize("enough", range(1, 6))
def test_the_planted_number_of_steps_is_found(enough: int) -> None:
    kept = shortest_prefix([planted(enough)], answer, "number")
    assert [t.response for t in kept] == ["".join(STEPS[:enough]) + "It is 2"]
    assert (kept[0].score, kept[0].n_tokens) == (1.0, None)
    assert kept.notes == ["cut: 1"]


def test_a_response_stays_if_no_steps_suffice() -> None:
    traces = [planted(6), Trace("one", "It is 2", answer=2), Trace("none", "", answer=2)]
    kept = shortest_prefix(traces, answer, "number")
    assert sorted(kept, key=lambda t: t.prompt) == sorted(traces, key=lambda t: t.prompt)
    assert kept.notes == ["kept, no correct shorter response: 3"]


def test_the_answer_may_come_before_any_step() -> None:
    kept = shortest_prefix([planted(0)], answer, "number", min_steps=0)
    assert kept[0].response == "It is 2"
    assert shortest_prefix([planted(0)], answer, "number", min_steps=3)[0].response == (
        "".join(STEPS[:3]) + "It is 2"
    )
    assert shortest_prefix([planted(0)], answer, "number", min_steps=6) == [planted(0)]


def test_an_answer_that_is_too_long_or_missing_is_not_used() -> None:
    texts: list[Any] = [None, "", " " * 300 + "2"]
    for text in texts:
        trace = planted(0)
        assert shortest_prefix([trace], lambda t, s, x=text: x, "number") == [trace]


def test_a_wrong_response_is_replaced_by_a_right_one() -> None:
    assert shortest_prefix([planted(2, score=0.0)], answer, "number")[0].score == 1.0


def test_the_order_of_the_traces_does_not_matter() -> None:
    traces = [planted(i % 7, f"q{i % 3}") for i in range(20)]
    expected = shortest_prefix(traces, answer, "number")
    shuffled = random.Random(0).sample(traces, len(traces))
    assert shortest_prefix(shuffled, answer, "number") == expected
    assert shortest_prefix(expected, answer, "number") == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"answer": 5}, "answer must be a function"),
        ({"answer": "nobody"}, "no function answer 'nobody'"),
        ({"verify": "nobody"}, "no verifier 'nobody'"),
        ({"split": ""}, "split must be the text"),
        ({"split": None}, "split must be a text"),
        ({"min_steps": -1}, "min_steps must be at least 0"),
        ({"min_steps": 1.5}, "min_steps must be an integer"),
        ({"threshold": float("nan")}, "threshold must be a finite number"),
        ({"threshold": "1"}, "threshold must be a number"),
    ],
    ids=range(9),
)
def test_bad_arguments_are_named_without_traces(options: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        shortest_prefix([], **{"answer": answer, "verify": "number", **options})
