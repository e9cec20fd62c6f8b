"""An earlier thought is continued, and the shortest right response is kept."""

from __future__ import annotations

import random
from typing import Any

import pytest

from kdlight.data.traces import Trace, revise_thoughts
from kdlight.data.traces.operators.thoughts import TRANSITIONS, check_words

TEXT = (
    "First thought, a step.\n\nAnother step.\n\nWait, a second thought.\n\n"
    "Alternatively, a third one.\n\nIt goes on, and on.\n\nIt is 2"
)
TRACE = Trace("q", TEXT, prompt_id="q", answer=2, score=1, n_tokens=40, finished=True)
THOUGHTS = ["First", "Wait", "Alternatively"]


def continuing(*endings: str | None) -> Any:
    """Return a function that ends the n-th thought in its own way."""

    def go_on(trace: Trace, start: str) -> str | None:
        assert trace.response.startswith(start)
        assert start.endswith("\n\n")
        return endings[sum(f"\n\n{word}" in start for word in THOUGHTS[1:])]

    return go_on


def revise(*endings: str | None, trace: Trace = TRACE, **options: Any) -> Any:
    return revise_thoughts([trace], continuing(*endings), "number", **options)


def test_the_shortest_right_response_is_kept() -> None:
    first = TEXT[: TEXT.index("Wait")]
    second = TEXT[: TEXT.index("Alternatively")]
    assert revise("It is 2", "It is 2")[0].response == first + "It is 2"
    assert revise("It is 3", "It is 2")[0].response == second + "It is 2"
    assert revise("It is 2" + " (yes!)" * 12, "2")[0].response == second + "2"
    kept = revise("It is 2", None)
    assert kept[0].response == first + "It is 2"
    assert (kept[0].score, kept[0].n_tokens, kept[0].finished) == (1.0, None, True)
    assert kept.notes == ["revised: 1"]


@pytest.mark.parametrize("endings", [("It is 3", "It is 3"), (None, None), ("x" * 200 + "2",) * 2])
def test_a_response_stays_without_a_better_one(endings: tuple[str, str]) -> None:
    kept = revise(*endings)
    assert kept == [TRACE]
    assert kept.notes == ["kept, no shorter correct response: 1"]


def test_only_right_traces_of_several_thoughts_are_revised() -> None:
    def never(trace: Trace, start: str) -> str:
        raise AssertionError

    wrong = Trace("q", TEXT, answer=2, score=0)
    single = Trace("q", "Awaiting.\n\nBut it is 2", answer=2, score=1)
    empty = Trace("q", "", answer=2, score=1)
    kept = revise_thoughts([wrong, single, empty], never, "number")
    assert len(kept) == 3
    assert sorted(kept.notes) == ["kept, not correct: 1", "kept, one thought: 2"]
    with pytest.raises(ValueError, match="has no score; verify"):
        revise_thoughts([Trace("q", TEXT)], never, "number")


def test_words_and_steps_can_be_chosen() -> None:
    trace = Trace("q", "One.\nHmm, two is it?\nIt is 2", answer=2, score=1)
    assert revise("2", trace=trace) == [trace]
    kept = revise_thoughts([trace], lambda t, s: "2", "number", words=["hmm"], split="\n")
    assert kept[0].response == "One.\n2"
    assert all(word == word.casefold().strip() for word in TRANSITIONS)


def test_the_order_of_the_traces_does_not_matter() -> None:
    traces = [
        Trace(f"q{i % 5}", TEXT + " " * i, answer=2, score=float(i % 3 > 0)) for i in range(20)
    ]
    go_on = continuing("It is 2", "2")
    expected = revise_thoughts(traces, go_on, "number")
    assert any(t.response not in {x.response for x in traces} for t in expected)
    shuffled = random.Random(0).sample(traces, len(traces))
    assert revise_thoughts(shuffled, go_on, "number") == expected
    assert revise_thoughts(expected, go_on, "number") == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"continue_fn": 5}, "continue_fn must be a function"),
        ({"continue_fn": "nobody"}, "no function continue_fn 'nobody'"),
        ({"verify": "nobody"}, "no verifier 'nobody'"),
        ({"words": []}, "words must hold at least one word"),
        ({"words": "wait"}, "words must be a list of texts"),
        ({"words": ["wait", " "]}, "words must be without spaces around them"),
        ({"words": [None]}, "words must be a text"),
        ({"split": ""}, "split must be the text"),
        ({"threshold": float("inf")}, "threshold must be a finite number"),
        ({"threshold": "1"}, "threshold must be a number"),
    ],
    ids=range(10),
)
def test_bad_arguments_are_named_without_traces(options: Any, message: str) -> None:
    given = {"continue_fn": continuing(), "verify": "number", **options}
    with pytest.raises((TypeError, ValueError), match=message):
        revise_thoughts([], **given)


def test_a_mapping_of_words_is_no_list() -> None:
    with pytest.raises(TypeError, match="words must be a list of texts"):
        check_words({"wait": 1})  # type: ignore[arg-type]
