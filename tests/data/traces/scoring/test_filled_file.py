"""A file of filled traces has the traces in their order, each once, and is continued."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kdlight.data import read_traces
from kdlight.data.traces import Trace
from kdlight.data.traces.scoring.filled_file import KeyOf, write_filled
from kdlight.data.traces.scoring.fillers import Filler

TRACES = [
    Trace(f"{i % 4}", "same" if i % 3 else f"r{i}", meta={"odd": i % 2}, n_tokens=99)
    for i in range(22)
]


class Numbers(Filler):
    """Fills perplexity with numbers that depend on what it was asked before, as sums do."""

    field = "perplexity"

    def __init__(self, stop_after: int | None = None) -> None:
        self.asked = 0
        self.stop_after = stop_after

    def values(self, traces: Sequence[Trace]) -> list[float | None]:
        if self.stop_after is not None and self.asked >= self.stop_after:
            raise KeyboardInterrupt
        start = self.asked
        self.asked += len(traces)
        return [None if n % 5 == 0 else n / 7 for n in range(start, self.asked)]

    def why_none(self, trace: Trace) -> str:
        return "a fifth"

    def recall(self, traces: Sequence[Trace], values: Sequence[float | None]) -> None:
        assert list(values) == Numbers().values(traces)
        self.asked += len(traces)


def write(path: Path, filler: Filler | None = None, **options: Any) -> str:
    options = {"traces": TRACES, "settings": {"a": 1}, "batch_size": 4, **options}
    traces = options.pop("traces")
    return str(write_filled(traces, path, [filler or Numbers()], **options))


def test_rows_are_those_of_the_input_in_order(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    report = write(path)
    assert report == "22 traces, perplexity of 17 (without, a fifth: 5)"
    for number, (got, trace) in enumerate(zip(read_traces(str(path)), TRACES, strict=True)):
        expected = None if number % 5 == 0 else number / 7
        assert got.perplexity == expected
        assert (got.prompt, got.response, got.meta) == (trace.prompt, trace.response, trace.meta)
        assert got.n_tokens == 99


@pytest.mark.parametrize("stop_after", [0, 4, 12, 20])
def test_a_stopped_run_is_continued_to_the_same_bytes(stop_after: int, tmp_path: Path) -> None:
    report = write(tmp_path / "whole.jsonl")
    expected = (tmp_path / "whole.jsonl").read_bytes()
    path = tmp_path / "t.jsonl"
    with pytest.raises(KeyboardInterrupt):
        write(path, Numbers(stop_after))
    done = path.read_bytes() if path.exists() else b""
    assert expected.startswith(done)
    assert done.count(b"\n") == stop_after
    assert write(path) == report  # the reasons of all rows, those of the first run included
    assert path.read_bytes() == expected
    assert write(path, Numbers(stop_after=22)) == report  # nothing is left to do


@pytest.mark.parametrize("cut", [1, 50, 777, -1, -40])
def test_a_cut_file_is_continued_to_the_same_bytes(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    write(path)
    expected = path.read_bytes()
    path.write_bytes(expected[:cut])
    write(path)
    assert path.read_bytes() == expected


def test_other_traces_and_settings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    write(path)
    expected = path.read_bytes()
    others: list[tuple[dict[str, Any], str]] = [
        ({"settings": {"a": 2}}, r"other settings \(a: 1 in the file, 2 now\)"),
        ({"traces": TRACES[::-1]}, r"other settings \(traces: "),
        ({"traces": TRACES[:-1]}, r"other settings \(traces: .*total: 22 in the file, 21 now"),
        ({"batch_size": 2}, r"other settings \(batch_size: 4 in the file, 2 now\)"),
    ]
    for options, message in others:
        with pytest.raises(ValueError, match=message):
            write(path, **options)
    assert path.read_bytes() == expected


def test_equal_traces_stay_as_many_as_they_are(tmp_path: Path) -> None:
    traces = [Trace("a", "1")] * 10
    path = tmp_path / "t.jsonl"
    write(path, traces=traces)
    expected = path.read_bytes()
    assert expected.count(b"\n") == 10
    path.write_bytes(expected + expected)  # two runs wrote it
    write(path, traces=traces)
    assert path.read_bytes() == expected


def test_a_name_with_wildcards_is_a_name(tmp_path: Path) -> None:
    path = tmp_path / "t[1]*.jsonl"
    with pytest.raises(KeyboardInterrupt):
        write(path, Numbers(8))
    assert write(path).startswith("22 traces")
    assert path.read_bytes().count(b"\n") == 22


def test_keys_ignore_the_fields_to_fill_only() -> None:
    rows = [{"prompt": "a", "n_tokens": n, "meta": {"n": n}} for n in (1, 2)]
    both = KeyOf(["n_tokens"])
    assert both(rows[0]) != both(rows[1])
    assert KeyOf(["n_tokens"])(rows[0]) == KeyOf(["n_tokens"])(json.loads(json.dumps(rows[0])))
    assert KeyOf(["n_tokens"])(rows[0]) == KeyOf(["n_tokens"])({**rows[0], "n_tokens": 7})
