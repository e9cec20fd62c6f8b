"""Rows of common dataset formats become traces."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.data.traces import to_traces
from kdlight.data.traces.formats import why_no_trace

ASKED = [{"role": "user", "content": "q"}]


RIGHT, WRONG = ([*ASKED, {"role": "assistant", "content": each}] for each in ("yes", "no"))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "q", "completion": "yes"}, [("q", "yes", None)]),
        ({"prompt": "q", "completion": "no", "label": False}, [("q", "no", 0.0)]),
        ({"prompt": "q", "chosen": "yes", "rejected": "no"}, [("q", "yes", 1.0), ("q", "no", 0.0)]),
        (
            {"prompt": ASKED, "chosen": RIGHT[1:], "rejected": WRONG[1:]},
            [(ASKED, "yes", 1.0), (ASKED, "no", 0.0)],
        ),
        (
            {"prompt": "q", "chosen": RIGHT, "rejected": WRONG},  # the whole conversation in each
            [(ASKED, "yes", 1.0), (ASKED, "no", 0.0)],
        ),
        ({"messages": RIGHT}, [(ASKED, "yes", None)]),
        (
            {
                "problem": "q",
                "generations": ["a", "b", "c"],
                "correctness": {"one": [True, True, False], "two": [True, False, False]},
            },
            [("q", "a", 1.0), ("q", "b", 0.0), ("q", "c", 0.0)],
        ),
        (
            {
                "problem": "q",
                "generations": ["a"],
                "correctness_math_verify": [True],
                "correctness_count": 1,
            },
            [("q", "a", 1.0)],
        ),
        ({"problem": "q", "generations": ["a"], "problem_is_valid": "No"}, []),
        ({"problem": "q", "generations": ["a", "b"], "correctness": {"one": [True]}}, []),
        ({"prompt": "q", "response": "yes", "score": 0.5}, [("q", "yes", 0.5)]),
    ],
)
def test_common_rows_become_traces(row: dict[str, Any], expected: list[Any]) -> None:
    traces = to_traces(row)
    assert [(each.prompt, each.response, each.score) for each in traces] == expected
    assert len({trace.prompt_id for trace in traces}) <= 1


def test_a_conversation_ends_with_its_response() -> None:
    with pytest.raises(ValueError, match="does not end with a message of the assistant"):
        to_traces({"messages": ASKED})
    with pytest.raises(ValueError, match="a response but no prompt"):
        to_traces({"messages": RIGHT[1:]})


def test_unknown_fields_of_a_trace_are_kept_in_meta() -> None:
    (trace,) = to_traces({"prompt": "q", "response": "yes", "level": 2, "meta": {"x": 1}})
    assert trace.meta == {"level": 2, "x": 1}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"problem": "q", "generations": "abc"}, "generations must be a list of responses"),
        ({"problem": "q", "generations": [3]}, "response must be a text, got 3"),
        (
            {"problem": "q", "generations": ["a"], "correctness": {"one": ["false"]}},
            "a verdict in correctness must be a number, got 'false'",
        ),
        (
            {"problem": "q", "generations": ["a"], "correctness_x": [float("nan")]},
            "a verdict in correctness_x must be a finite number, got nan",
        ),
        (
            {"problem": "q", "generations": ["a"], "is_reasoning_complete": ["no"]},
            "finished must be true, false or absent, got 'no'",
        ),
        (
            {"problem": "q", "generations": ["a", "b"], "is_reasoning_complete": [True]},
            "is_reasoning_complete has 1 entries, but there are 2 generations",
        ),
        ({"prompt": "q", "completion": "a", "label": "false"}, "label must be a number"),
        (
            {"prompt": "q", "completion": "a", "label": float("nan")},
            "label must be a finite number",
        ),
        ({"prompt": "q", "completion": 3}, "the response must be a text or a list of messages"),
        ({"prompt": "q", "completion": [{"content": "a"}]}, "message 1 has no 'role'"),
        ({"messages": [{"role": "user", "content": None}]}, "content of message 1 must be a text"),
        ({"messages": ["a"]}, "message 1 must be an object"),
        ({"messages": RIGHT, "score": "high"}, "score must be a number"),
        ({"prompt": "q", "response": "a", "meta": "m"}, "meta must be an object"),
        ({"messages": RIGHT, "meta": "m"}, "meta must be an object"),
        ({"messages": RIGHT, "tools": "add"}, "tools is a text that is not JSON"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "type 'image'"),
        ({"prompt": [{"role": "user"}], "completion": RIGHT[1:]}, "message 1 has no 'content'"),
    ],
    ids=range(18),
)
def test_values_of_another_kind_are_refused(row: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        to_traces(row)


def test_a_missing_verdict_is_a_wrong_one() -> None:
    row = {"problem": "q", "generations": ["a", "b"], "correctness": {"one": [None, True]}}
    assert [trace.score for trace in to_traces({**row, "problem_is_valid": True})] == [0.0, 1.0]


CALL = {"id": "1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
CALLED = [
    *ASKED,
    {"role": "assistant", "content": None, "tool_calls": [CALL], "name": None},
    {"role": "tool", "content": "3", "tool_call_id": "1", "tool_calls": None},
]
REASONED = {"reasoning_content": "It is 3."}
LAST = {"role": "assistant", "content": "so 3", "name": None, **REASONED}
KEPT = [*ASKED, {k: v for k, v in CALLED[1].items() if k != "name"}, {**CALLED[2]}]
del KEPT[2]["tool_calls"]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [*CALLED, LAST]},
        {"prompt": ASKED, "completion": [*CALLED[1:], LAST]},
        {"prompt": "q", "completion": [*CALLED[1:], LAST]},
        {"prompt": CALLED, "completion": [LAST]},
        {"prompt": CALLED, "chosen": [LAST], "rejected": [LAST]},
        {"chosen": [*CALLED, LAST], "rejected": [*CALLED, LAST]},
        {
            "prompt": CALLED,
            "response": "so 3",
            "response_fields": {"reasoning_content": "It is 3."},
        },
    ],
    ids=range(7),
)
@pytest.mark.parametrize("tools", [[{"name": "add"}], '[{"name": "add"}]'], ids=["list", "text"])
def test_messages_keep_what_a_template_may_want(row: dict[str, Any], tools: Any) -> None:
    for trace in to_traces({**row, "tools": tools}):
        assert trace.prompt == KEPT
        assert trace.response == "so 3"
        assert trace.response_fields == REASONED
        assert trace.tools == [{"name": "add"}]


def test_a_response_can_be_a_call_or_parts_of_text() -> None:
    (trace,) = to_traces({"messages": CALLED[:2]})
    assert (trace.response, trace.response_fields) == ("", {"tool_calls": [CALL]})
    parts = [{"type": "text", "text": "so "}, {"type": "text", "text": "3"}]
    (trace,) = to_traces({"prompt": "q", "completion": [{"role": "assistant", "content": parts}]})
    assert (trace.response, trace.response_fields) == ("so 3", {})


def test_a_pair_of_trajectories_is_of_one_prompt() -> None:
    other = [*ASKED, {"role": "assistant", "content": "I ask."}, {"role": "tool", "content": "4"}]
    traces = to_traces({"chosen": [*CALLED, LAST], "rejected": [*other, LAST]})
    assert len({trace.prompt_id for trace in traces}) == 1
    assert traces[0].prompt != traces[1].prompt
    named = to_traces({"id": "p", "chosen": [*CALLED, LAST], "rejected": [*other, LAST]})
    assert {trace.prompt_id for trace in named} == {"p"}


def test_other_fields_of_a_conversation_are_kept_in_meta() -> None:
    row = {"messages": RIGHT, "error": "parse", "meta": {"x": 1}, "level": None, "id": 3}
    (trace,) = to_traces(row)
    assert trace.meta == {"error": "parse", "x": 1}


@pytest.mark.parametrize(
    "row",
    [{"messages": RIGHT}, {"prompt": "q", "completion": "yes"}, {"prompt": "q", "response": "yes"}],
    ids=["messages", "completion", "response"],
)
def test_fields_of_a_trace_are_taken_in_all_formats(row: dict[str, Any]) -> None:
    known = {"score": 0.0, "finished": False, "teacher": "t", "n_tokens": 5, "perplexity": 2.0}
    (trace,) = to_traces({**row, **known, "difficulty": 3, "level": 1, "meta": {"x": 1}})
    assert {name: getattr(trace, name) for name in known} == known
    assert (trace.difficulty, trace.meta) == (3, {"level": 1, "x": 1})


def test_fields_of_rows_with_several_responses() -> None:
    """Those that tell something of one response only are kept as they are."""
    known = {"finished": False, "teacher": "t", "difficulty": 3}
    row = {**known, "n_tokens": 5, "score": 0.5, "level": 1, "meta": {"x": 1}, "messages": RIGHT}
    kept = {"n_tokens": 5, "score": 0.5, "level": 1, "x": 1}
    for more in (
        {"prompt": "q", "chosen": "yes", "rejected": "no"},
        {"problem": "q", "generations": ["yes", "no"], "correctness_x": [True, False]},
    ):
        traces = to_traces({**row, **more})
        assert [trace.score for trace in traces] == [1.0, 0.0]
        for trace in traces:
            assert {name: getattr(trace, name) for name in known} == known
            assert {k: v for k, v in trace.meta.items() if k != "generation"} == kept


def test_a_label_is_the_score_and_another_score_is_kept() -> None:
    (trace,) = to_traces({"prompt": "q", "completion": "a", "label": False, "score": 3.5})
    assert (trace.score, trace.meta) == (0.0, {"score": 3.5})


def test_a_difficulty_in_words_is_kept_in_meta() -> None:
    (trace,) = to_traces({"messages": RIGHT, "difficulty": "hard", "image": b"x"})
    assert (trace.difficulty, trace.meta) == (None, {"difficulty": "hard"})


def test_only_rows_of_open_r1_can_have_no_trace() -> None:
    assert why_no_trace({"messages": RIGHT}) == ""
    assert why_no_trace({"text": "a"}) == ""
    assert why_no_trace({"problem": "q", "generations": []}) == "no responses"


def test_trajectories_of_one_question_have_one_prompt() -> None:
    def row(question: str, *tried: str) -> dict[str, Any]:
        turns = [
            {"role": role, "content": f"{role} {text}"}
            for text in tried
            for role in ("assistant", "tool")
        ]
        asked = {"role": "user", "content": question}
        return {"messages": [asked, *turns, {"role": "assistant", "content": "7"}]}

    first, second, direct, other = (
        to_traces(each)[0]
        for each in (row("3 + 4", "a"), row("3 + 4", "b", "c"), row("3 + 4"), row("9 + 9", "a"))
    )
    assert first.prompt != second.prompt
    assert first.prompt_id == second.prompt_id == direct.prompt_id != other.prompt_id
    assert to_traces({**row("3 + 4", "a"), "id": "mine"})[0].prompt_id == "mine"
