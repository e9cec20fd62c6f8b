"""The parser of the commands for traces: help, files of options, and errors in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdlight.cli import main
from tests.cli.traces.running import error_of, run


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("generate", ("--source", "--sampling")),
        ("verify", ("--verifier", "--threshold")),
        ("score", ("--perplexity", "--difficulty")),
        ("select", ("--select", "--files")),
    ],
)
def test_a_command_shows_its_options(
    command: str, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["traces", command, "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert all(option in printed for option in options)


def test_the_options_of_every_command_can_stand_in_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    traces, config = tmp_path / "traces.jsonl", tmp_path / "verify.yaml"
    traces.write_text(json.dumps({"prompt": "q", "response": "2", "answer": "2"}))
    config.write_text(json.dumps({"files": [str(traces)], "verifier": "number"}))
    run("verify", f"--config={config}", f"--output={tmp_path}")
    assert capsys.readouterr().out.startswith("1 positive, 0 negative")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["selekt"], "invalid choice: 'selekt' (choose from"),
        (["verify", "--filess=x"], "unrecognized arguments: --filess=x"),
        (["verify"], "arguments are required: verify.files, verify.output"),
        (["verify", "--config=none.yaml"], "File does not exist"),
        (["score", "--files=x", "--tokens"], "--tokens: expected one argument"),
    ],
)
def test_a_wrong_command_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in error_of(capsys, *arguments)
