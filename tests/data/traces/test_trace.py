"""Traces are written to a file, and have an id and a length."""

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


def test_length_is_in_tokens_if_they_are_counted() -> None:
    assert (Trace("q", "abc").length, Trace("q", "abc", n_tokens=7).length) == (3, 7)


def test_unknown_values_are_not_written() -> None:
    line = Trace("q", "a", prompt_id="p", score=0.0, finished=False).to_json()
    assert (
        line
        == '{"prompt": "q", "response": "a", "prompt_id": "p", "score": 0.0, "finished": false}'
    )
