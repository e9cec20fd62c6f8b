"""The first paragraph of a chain of thought stands before the first turn of a trajectory."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from kdlight.data.traces import Trace, first_thought_prefix, write_traces
from kdlight.data.traces.operators.first_thought import first_paragraph

USER = {"role": "user", "content": "q"}
CHAIN = "<think>\nAdd the two.\nThen stop.\n\nSo 3.\n</think>\n\n3"
FIRST = "Add the two.\nThen stop."
ACTED = [
    USER,
    {"role": "assistant", "content": "act", "reasoning_content": "r"},
    {"role": "tool", "content": "3"},
    {"role": "assistant", "content": "again"},
    {"role": "tool", "content": "3"},
]


def with_chain(prompt: Any, response: str = "done", **options: Any) -> Trace:
    return Trace(prompt, response, meta={"chain_of_thought": CHAIN}, **options)


@pytest.mark.parametrize(
    ("chain", "paragraph"),
    [
        (CHAIN, FIRST),
        ("One.", "One."),
        ("One.\n \nTwo.", "One."),
        ("\n\n One.\n\nTwo.", "One."),
        ("[THINK]One.[/THINK]Two.", "One."),
        ("<thinking>One.</thinking>Two.", "One."),
        ("[1] is a list, <div></div> a mark", "[1] is a list, <div></div> a mark"),
        ("", ""),
        ("<think>\n\n</think>3", ""),
        ("ä\r\n\r\nb", "ä"),
    ],
    ids=range(10),
)
def test_the_first_paragraph_of_a_chain(chain: str, paragraph: str) -> None:
    assert first_paragraph(chain) == paragraph


def test_only_the_first_turn_is_changed() -> None:
    (kept,) = first_thought_prefix([with_chain(ACTED)])
    assert kept.prompt[1] == {**ACTED[1], "content": f"{FIRST}\n\nact"}
    assert [kept.prompt[0], *kept.prompt[2:]] == [ACTED[0], *ACTED[2:]]
    assert kept.response == "done"
    assert kept.prompt_id == Trace(ACTED, "").prompt_id  # still of the same prompt
    assert ACTED[1]["content"] == "act"


def test_a_response_is_the_first_turn_if_it_is_the_only_one() -> None:
    (kept,) = first_thought_prefix([with_chain("q", n_tokens=1, perplexity=2.0)], separator=" ")
    assert (kept.prompt, kept.response) == ("q", f"{FIRST} done")
    assert (kept.n_tokens, kept.perplexity) == (None, None)


def test_a_turn_of_a_call_or_of_parts_is_prefixed() -> None:
    call = {"function": {"name": "f", "arguments": {}}}
    calls = {"role": "assistant", "content": None, "tool_calls": [call]}
    parts = {"role": "assistant", "content": [{"type": "text", "text": "act"}]}
    (kept,) = first_thought_prefix([with_chain([USER, calls, USER])])
    assert kept.prompt[1] == {**calls, "content": FIRST}
    (kept,) = first_thought_prefix([with_chain([USER, parts, USER])])
    assert kept.prompt[1]["content"] == [{"type": "text", "text": f"{FIRST}\n\nact"}]  # type: ignore[index]


@pytest.mark.parametrize("as_file", [False, True])
def test_chains_come_from_other_traces_of_the_same_prompt(as_file: bool, tmp_path: Path) -> None:
    chains: Any = [
        Trace("q", "Wrong.\n\nNo.", prompt_id="a", score=0.0),
        Trace("q", "Right.\n\nYes.", prompt_id="a", score=1.0),
        Trace("q", "Unknown.", prompt_id="a"),
        Trace("q", "Other.", prompt_id="b"),
    ]
    if as_file:
        write_traces(tmp_path / "chains.jsonl", chains)
        chains = str(tmp_path / "chains.jsonl")
    traces = [Trace(ACTED, "done", prompt_id=each) for each in "ab"]
    kept = first_thought_prefix(traces, thoughts=chains)
    assert [trace.prompt[1]["content"] for trace in kept] == ["Right.\n\nact", "Other.\n\nact"]  # type: ignore[index]
    assert kept.notes == ["changed: 2"]


def test_what_is_missing_is_kept_and_told() -> None:
    traces = [with_chain("a"), Trace("b", "done"), Trace("c", "x", meta={"chain_of_thought": ""})]
    with pytest.warns(UserWarning, match="first_thought_prefix found fewer .* thought: 2"):
        kept = first_thought_prefix(traces)
    assert kept.missing == {"chains of thought": 2}
    assert sorted(trace.response for trace in kept) == [f"{FIRST}\n\ndone", "done", "x"]


def test_the_order_does_not_matter_and_again_changes_nothing() -> None:
    traces = [with_chain(f"q{i % 4}", f"done {i}") for i in range(12)]
    kept = first_thought_prefix(traces)
    assert kept.notes == ["changed: 12"]
    for seed in range(3):
        assert first_thought_prefix(random.Random(seed).sample(traces, 12)) == kept
    assert first_thought_prefix(kept) == kept
    assert first_thought_prefix(kept).notes == []
    assert first_thought_prefix([]) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"thoughts": 3}, "thoughts must be a file, a list of files, or a list of traces, got 3"),
        ({"thoughts": []}, "thoughts must hold at least one trace or file"),
        ({"thoughts": ["a.jsonl", Trace("q", "a")]}, "thoughts must be a name or a list of names"),
        ({"key": ""}, "key must be a name in meta, got an empty text"),
        ({"key": 3}, "key must be a text, got 3"),
        ({"separator": None}, "separator must be a text, got None"),
    ],
    ids=range(6),
)
def test_bad_arguments_are_named_without_traces(options: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        first_thought_prefix([], **options)


def test_a_chain_of_another_kind_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"meta\['chain_of_thought'\] of a trace of prompt 'p'"):
        first_thought_prefix([Trace("q", "a", prompt_id="p", meta={"chain_of_thought": [1]})])
    path = str(tmp_path / "none.jsonl")
    assert first_thought_prefix([], thoughts=path) == []
    with pytest.raises(ValueError, match="does not exist"):
        first_thought_prefix([with_chain("q")], thoughts=path)
