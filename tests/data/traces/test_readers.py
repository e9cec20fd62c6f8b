"""From files and datasets in common formats to traces: who is who, and what is no trace."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kdlight.data import read_traces
from kdlight.data.traces import Trace, to_traces, write_traces

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


def test_a_row_without_a_trace_says_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "q", "completion": "yes"}\n{"text": "all in one"}\n')
    with pytest.raises(ValueError, match=r"line 2: a row has fields \['text'\]"):
        read_traces(str(path))
    with pytest.raises(ValueError, match="does not end with a message of the assistant"):
        to_traces({"messages": ASKED})


def test_traces_survive_a_file(tmp_path: Path) -> None:
    traces = [
        Trace("q", 'a\n"b\u2028', score=0.0, finished=False, n_tokens=3, meta={"x": [1]}),
        Trace(ASKED, "", answer=4),
    ]
    write_traces(tmp_path / "t.jsonl", traces)
    assert read_traces(str(tmp_path / "t.jsonl")) == traces


def test_hub_datasets_are_read_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(name: str, config: str | None, *, split: str) -> list[dict[str, str]]:
        asked.append((name, config, split))
        return [{"prompt": "q", "completion": "yes"}]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert read_traces(["hf:owner/name", "hf:owner/name/config:test"])[1].response == "yes"
    assert asked == [("owner/name", None, "train"), ("owner/name", "config", "test")]
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r"pip install 'kdlight\[data\]'"):
        read_traces("hf:owner/name")


def test_json_lines_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    for content, message in (("", "is empty"), ("{", "is not JSON"), (json.dumps([1]), "is list")):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            read_traces(str(path))
    with pytest.raises(ValueError, match="does not exist"):
        read_traces(str(tmp_path / "none.jsonl"))
