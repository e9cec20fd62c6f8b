"""``kdlight traces``: two commands, and errors in one line.

What they write is tested in tests/data/traces/test_generate.py and test_verify.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdlight.cli import main


@pytest.mark.parametrize(
    ("command", "options"),
    [("generate", ("--source", "--sampling")), ("verify", ("--verifier", "--threshold"))],
)
def test_a_command_shows_its_options(
    command: str, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["traces", command, "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert all(option in printed for option in options)


def test_missing_prompts_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "traces.jsonl"
    with pytest.raises(SystemExit) as stop:
        main(["traces", "generate", "--source=x", "--prompts=none.jsonl", f"--output={output}"])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert "none.jsonl" in line
    assert not output.exists()


def test_prompts_with_both_kinds_of_traces_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "traces.jsonl"
    rows = [
        {"prompt": "1+1=", "response": text, "answer": "2", "finished": True, "prompt_id": "one"}
        for text in ("2", "3")
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    main(["traces", "verify", f"--files=[{path}]", f"--output={tmp_path}"])
    printed = capsys.readouterr().out
    assert printed.startswith("1 positive, 1 negative, 0 unfinished and left out; 1 prompts")
    assert len((tmp_path / "positives.jsonl").read_text().splitlines()) == 1
