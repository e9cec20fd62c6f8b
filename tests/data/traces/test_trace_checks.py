"""A trace of wrong kinds is refused, and a row of a file with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kdlight.data import TracesDataModule, read_traces
from kdlight.data.traces import Trace
from kdlight.data.traces.trace import check_trace
from kdlight.data.traces.trace_checks import check_number, check_text, check_texts
from tests.support import tiny_lm

ROLE = [{"content": "q"}]
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"response": 42}, r"response must be a text, got 42 \(int\)"),
    ({"response": ["a"]}, "response must be a text"),
    ({"response": "a\ud800"}, "lone surrogate"),
    ({"prompt": 5}, "prompt must be a text or a list of messages, got 5"),
    ({"prompt": []}, "prompt must hold at least one message"),
    ({"prompt": ROLE}, r"prompt: message 1 has no 'role', its fields are \['content'\]"),
    (
        {"prompt": [{"role": "user", "content": None}]},
        "prompt: content of message 1 must be a text",
    ),
    ({"prompt": ["q"]}, "prompt: message 1 must be an object, got 'q'"),
    ({"finished": "false"}, r"finished must be true, false or absent, got 'false' \(str\)"),
    ({"finished": 0}, "finished must be true, false or absent, got 0"),
    ({"score": float("nan")}, "score must be a finite number, got nan"),
    ({"score": float("inf")}, "score must be a finite number, got inf"),
    ({"score": "1"}, "score must be a number, got '1'"),
    ({"n_tokens": "3"}, "n_tokens must be an integer, got '3'"),
    ({"n_tokens": -1}, "n_tokens must be at least 0, got -1"),
    ({"difficulty": "hard"}, "difficulty must be a number"),
    ({"perplexity": float("nan")}, "perplexity must be a number, got nan"),
    ({"teacher": 3}, "teacher must be a text"),
    ({"meta": [1]}, "meta must be an object"),
    ({"tools": {"name": "f"}}, "tools must be a list of JSON schemas"),
    ({"tools": [{}]}, "tools: tool 1 has no 'name'"),
    ({"response_fields": [1]}, "response_fields must be an object"),
    ({"response_fields": {"content": "a"}}, "response_fields must not have 'content'"),
    ({"response_fields": {"thinking": 1}}, "thinking of the response must be a text"),
]


@pytest.mark.parametrize(("fields", "message"), WRONG, ids=range(len(WRONG)))
def test_a_row_of_wrong_kinds_is_named_with_its_line(
    fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "t.jsonl"
    row = {"prompt": "q", "response": "a"}
    path.write_text(f"{json.dumps(row)}\n\n{json.dumps({**row, **fields})}\n")
    with pytest.raises(ValueError, match=rf"files: {path}, line 3:? .*{message}"):
        read_traces(str(path))
    with pytest.raises(ValueError, match=rf"files: {path}, line 3:? .*{message}"):
        TracesDataModule(tiny_lm.tokenizer(), str(path)).setup()


@pytest.mark.parametrize(("fields", "message"), WRONG, ids=range(len(WRONG)))
def test_a_trace_of_wrong_kinds_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Trace(**{"prompt": "q", "response": "a", **fields})


def test_what_a_trace_may_hold_is_accepted() -> None:
    check_trace(Trace("", ""))
    check_text("response", "\U0001f600")
    for value in (0, 1, True, 0.5, -3):
        check_number("score", value)
    check_number("perplexity", float("inf"), finite=False)
    Trace("q", "a", perplexity=float("inf"), finished=True, n_tokens=0, teacher="t", score=True)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("wait", "words must be a list of texts, got 'wait'"),
        (5, "words must be a list of texts, got 5"),
        ([], "words must hold at least one word, got none"),
        ([5], "words must be a text, got 5"),
        (["\ud800"], "words is not valid Unicode"),
    ],
    ids=range(5),
)
def test_what_is_no_list_of_texts_is_refused(value: Any, message: str) -> None:
    check_texts("words", ["wait"], one="word")
    with pytest.raises((TypeError, ValueError), match=message):
        check_texts("words", value, one="word")
