"""Equal traces are found by their content, and each tells where it comes from."""

from __future__ import annotations

from dataclasses import replace

from kdlight.callbacks.round_recipes.origins import (
    as_prompt,
    content,
    prompt_content,
    unique,
    with_origin,
)
from kdlight.data.traces import Trace

TRACE = Trace("1 + 1 =", "2", answer="2", score=1.0, n_tokens=2, meta={"task": "sum"})


def test_an_origin_has_round_author_and_score_and_keeps_the_other_meta() -> None:
    made = with_origin(TRACE, 2, "student", more=3)
    assert made.meta == {
        "task": "sum",
        "origin": {"round": 2, "author": "student", "score": 1.0, "more": 3},
    }
    assert replace(made, meta=TRACE.meta) == TRACE


def test_a_prompt_has_nothing_of_its_response() -> None:
    made = replace(TRACE, finished=True, teacher="T", perplexity=2.0)
    prompt = as_prompt(
        with_origin(replace(made, meta={"generation": 1, **made.meta}), 1, "teacher")
    )
    assert prompt == Trace("1 + 1 =", "", answer="2", meta={"task": "sum"})


def test_equal_content_does_not_depend_on_ids_scores_and_meta() -> None:
    other = replace(TRACE, prompt_id="mine", score=0.0, meta={})
    assert content(other) == content(TRACE)
    for changed in (
        {"response": "3"},
        {"prompt": "1 + 2 ="},
        {"response_fields": {"reasoning_content": "one"}},
        {"tools": [{"name": "calculator"}]},
    ):
        assert content(replace(TRACE, **changed)) != content(TRACE)
    assert prompt_content(replace(TRACE, response="3")) == prompt_content(TRACE)


def test_messages_are_compared_by_what_they_say() -> None:
    one = Trace([{"role": "user", "content": "hi"}], "ho")
    other = Trace([{"content": "hi", "role": "user"}], "ho")
    assert content(one) == content(other)


def test_what_is_unique_keeps_its_order_and_does_not_change_what_was_taken() -> None:
    traces = [Trace("a", str(i % 3)) for i in range(6)]
    taken = {content(traces[1])}
    assert [trace.response for trace in unique(traces, taken)] == ["0", "2"]
    assert len(taken) == 1
    assert len(unique(traces, set(), prompt_content)) == 1
