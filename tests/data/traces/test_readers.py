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


def rows_file(folder: Path, *rows: object, name: str = "rows.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


ROW = {"problem": "q", "generations": ["a", "b"], "correctness": {"one": [True, False]}}
SHORT = {**ROW, "correctness": {"one": [True]}}


def test_rows_without_a_trace_are_counted(tmp_path: Path) -> None:
    invalid = {**ROW, "problem_is_valid": "No"}
    path = rows_file(tmp_path, ROW, SHORT, invalid, SHORT, {**ROW, "generations": []} | {"x": 1})
    with pytest.warns(UserWarning, match="4 of 5 rows of .*rows.jsonl have no trace: ") as warned:
        assert len(read_traces(path)) == 2
    told = str(warned[0].message)
    assert "3 with verdicts that do not match the responses" in told
    assert "1 with a problem that is not valid" in told
    with pytest.raises(ValueError, match="2 of 2 rows of .* have no trace: 2 with verdicts that"):
        read_traces(rows_file(tmp_path, SHORT, SHORT, name="none.jsonl"))


@pytest.mark.parametrize("second", ["a.jsonl", "*.jsonl", "../*/a.jsonl", "link.jsonl"])
def test_a_file_is_not_read_twice(second: str, tmp_path: Path) -> None:
    first = rows_file(tmp_path, ROW, name="a.jsonl")
    (tmp_path / "link.jsonl").symlink_to(first)
    with pytest.raises(ValueError, match="a.jsonl is named twice, by .* name it once"):
        read_traces([first, f"{tmp_path}/{second}"])
    assert len(read_traces([first, rows_file(tmp_path, ROW, name="b.jsonl")])) == 4


def test_a_dataset_is_not_read_twice() -> None:
    with pytest.raises(ValueError, match="hf:x is named twice, by 'hf:x' and by 'hf:x'"):
        read_traces(["hf:x", "hf:x"])


def test_a_file_of_no_lines_has_no_traces(tmp_path: Path) -> None:
    files = [rows_file(tmp_path, *rows, name=f"{len(rows)}.jsonl") for rows in ((), (ROW,))]
    assert len(read_traces(files)) == 2
    with pytest.raises(ValueError, match=r"files: .*0.jsonl is empty"):
        read_traces(files[0])
