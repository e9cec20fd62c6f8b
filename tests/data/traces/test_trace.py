"""Traces are written to a file, and have an id."""

from __future__ import annotations

from pathlib import Path

from kdlight.data import read_traces
from kdlight.data.traces import Trace, write_traces

ASKED = [{"role": "user", "content": "q"}]


def test_traces_survive_a_file(tmp_path: Path) -> None:
    traces = [
        Trace("q", 'a\n"b\u2028', score=0.0, finished=False, n_tokens=3, meta={"x": [1]}),
        Trace(ASKED, "", answer=4),
    ]
    write_traces(tmp_path / "t.jsonl", traces)
    assert read_traces(str(tmp_path / "t.jsonl")) == traces


def test_the_id_of_a_prompt_depends_on_the_prompt_only() -> None:
    assert Trace("q", "a").prompt_id == Trace("q", "b", teacher="t").prompt_id
    assert len({Trace(prompt, "a").prompt_id for prompt in ("q", "r", ASKED)}) == 3
    assert Trace("q", "a", prompt_id="mine").prompt_id == "mine"


def test_unknown_values_are_not_written() -> None:
    line = Trace("q", "a", prompt_id="p", score=0.0, finished=False).to_json()
    assert (
        line
        == '{"prompt": "q", "response": "a", "prompt_id": "p", "score": 0.0, "finished": false}'
    )


def test_tools_and_fields_of_messages_survive_a_file(tmp_path: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"é": None}}}
    prompt = (
        *ASKED,
        {"role": "assistant", "content": None, "tool_calls": (call,), "name": None},
        {"role": "tool", "content": [{"type": "text", "text": "3"}], "tool_call_id": "1"},
    )
    traces = [
        Trace(prompt, "so 3", tools=({"name": "f"},), response_fields={"thinking": "3?"}),  # type: ignore[arg-type]
        Trace("q", "", response_fields={"tool_calls": [call]}),
    ]
    write_traces(tmp_path / "t.jsonl", traces)
    read = read_traces(str(tmp_path / "t.jsonl"))
    assert read == traces
    assert [each.to_json() for each in read] == [each.to_json() for each in traces]
    assert traces[0].prompt[1] == {"role": "assistant", "content": None, "tool_calls": [call]}


def test_tools_are_a_part_of_the_prompt() -> None:
    ids = {Trace("q", "a", tools=tools).prompt_id for tools in (None, [{"name": "f"}])}
    assert len(ids) == 2
    assert Trace("q", "a", tools=[]) == Trace("q", "a")
