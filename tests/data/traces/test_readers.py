"""Traces are read from files and datasets, and faulty rows are named."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from kdlight.data import read_traces


def test_a_row_without_a_trace_says_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "q", "completion": "yes"}\n{"text": "all in one"}\n')
    with pytest.raises(ValueError, match=r"line 2: a row has fields \['text'\]"):
        read_traces(str(path))


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
    faults = {
        "": "is empty",
        "{": "is not JSON",
        json.dumps([1]): "must be a JSON object, got list",
    }
    for content, message in faults.items():
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            read_traces(str(path))
    with pytest.raises(ValueError, match="does not exist"):
        read_traces(str(tmp_path / "none.jsonl"))
