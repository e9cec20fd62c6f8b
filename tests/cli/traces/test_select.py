"""``kdlight traces select``: operators of a config, over files, with a table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from kdlight.cli import main
from kdlight.data import TracesDataModule, read_traces
from kdlight.data.traces import Trace, shortest_correct, write_traces
from tests.support import tiny_lm

SELECT = """
- quality_filter: {max_length: 30}
- shortest_correct: {n: 1}
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    traces = [
        Trace(f"q{i}", "x" * n, score=float(i % 3 > 0), n_tokens=n)
        for i in range(9)
        for n in (5, 20, 40)
    ]
    write_traces(tmp_path / "traces.jsonl", traces)
    return tmp_path / "traces.jsonl"


def config(folder: Path, files: Path, select: str = SELECT) -> Path:
    path = folder / "select.yaml"
    body = "select:" + select.replace("\n", "\n  ")
    path.write_text(f"files: [{files}]\noutput: {folder / 'out.jsonl'}\n{body}\n")
    return path


def test_a_config_selects_and_prints_a_table(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["traces", "select", "--config", str(config(tmp_path, files))])
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in table[:3]] == [
        ["operator", "read", "kept", "dropped"],
        ["quality_filter", "27", "18", "9"],
        ["shortest_correct", "18", "6", "12"],
    ]
    assert table[1].endswith("longer than max_length: 9")
    assert table[2].endswith("incorrect: 6; longer: 6")
    assert table[3] == f"6 traces of 6 prompts: {tmp_path / 'out.jsonl'}"
    expected = shortest_correct(t for t in read_traces(str(files)) if (t.n_tokens or 0) <= 30)
    assert read_traces(str(tmp_path / "out.jsonl")) == expected


@pytest.mark.parametrize(
    "select", ["{shortest_correct: {n: 2}}", "[{shortest_correct: {n: 2}}]"], ids=["one", "list"]
)
def test_a_mapping_can_stand_on_the_command_line(
    select: str, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.jsonl"
    main(["traces", "select", f"--files={files}", f"--output={output}", f"--select={select}"])
    assert read_traces(str(output)) == shortest_correct(read_traces(str(files)), n=2)
    assert "shortest_correct" in capsys.readouterr().out


def test_the_same_list_selects_in_a_data_module(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["traces", "select", "--config", str(config(tmp_path, files))])
    options = {"tokenizer": tiny_lm.tokenizer(), "validation_fraction": 0.0}
    selected = TracesDataModule(files=str(tmp_path / "out.jsonl"), **options)
    select: list[Any] = [{"quality_filter": {"max_length": 30}}, {"shortest_correct": {"n": 1}}]
    module = TracesDataModule(files=str(files), select=select, **options)
    rows = [[part.samples for part in (m.train_rows,)] for m in (selected, module)]
    assert rows[0] == rows[1]
    assert len(module.train_rows) == 6


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ("\n- shortest_corect", "operator 1: no operator 'shortest_corect'"),
        ("\n- joint_rank: {kep: 1}", "no parameter 'kep'; did you mean keep"),
        ("\n- joint_rank: {}", "has a difficulty; fill it with kdlight traces score"),
        (
            "\n- shortest_correct: {candidates: 9}",
            "no trace is left, so .*out.jsonl is not written",
        ),
    ],
)
def test_an_error_is_one_line_and_nothing_is_written(
    select: str, message: str, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["traces", "select", "--config", str(config(tmp_path, files, select))])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(message, line), line
    assert not (tmp_path / "out.jsonl").exists()


def test_the_file_that_is_read_is_not_written(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files.read_bytes()
    with pytest.raises(SystemExit):
        main(
            ["traces", "select", f"--files={files}", f"--output={files}", "--select=length_control"]
        )
    assert "is also read as one of the files" in capsys.readouterr().err
    assert files.read_bytes() == before
