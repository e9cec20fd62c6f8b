"""``kdlight traces score``: the command, killed and started again, and its errors in one line.

The values are tested in tests/data/traces/scoring.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdlight.cli import main
from kdlight.data import read_traces
from kdlight.data.traces import Trace, write_traces
from tests.data.traces.scoring.judges import constant_judge
from tests.support import tiny_lm

ROOT = Path(__file__).parents[2]
ALL = ["--tokens=true", "--perplexity=true", "--difficulty=pass_rate"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_lm.save(tmp_path_factory.mktemp("model"))


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    path = tmp_path / "traces.jsonl"
    rows = [
        Trace(f"{i % 9} + 1 =", f" {'so ' * (i % 7)}{i % 9 + 1}", score=float(i % 2), answer=i)
        for i in range(30)
    ]
    write_traces(path, [*rows, Trace("1 + 1 =", "", score=0)])
    return path


def score(*arguments: object) -> None:
    main(["traces", "score", *map(str, arguments)])


def error_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return the one line that the command prints when it stops."""
    with pytest.raises(SystemExit) as stop:
        score(*arguments)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    return line


def test_the_options_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        score("--help")
    assert stop.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Fill tokens, perplexity or difficulty of traces" in printed
    for option in ("tokens", "perplexity", "difficulty", "model", "levels", "instruction"):
        assert f"--{option}" in printed
    assert "pass_rate is the fraction" in printed
    assert "judge is the probability" in printed


def test_all_fields_are_filled(
    model: str, traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "scored.jsonl"
    given = [f"--files={traces}", f"--output={output}", f"--model={model}", *ALL]
    score(*given, "--levels=5")
    (line,) = capsys.readouterr().out.strip().splitlines()
    assert line == (
        "31 traces, n_tokens of 31, perplexity of 30 (without, empty response: 1), difficulty of"
        f" 31: {output}"
    )
    before, after = (read_traces(str(path)) for path in (traces, output))
    assert [trace.answer for trace in after] == [trace.answer for trace in before]
    assert [trace.n_tokens for trace in after] == [len(t.response) + 1 for t in before]
    assert {trace.difficulty for trace in after} <= {1, 2, 3, 4, 5}
    score(*given, "--levels=5")  # nothing is left to do
    assert capsys.readouterr().out.strip() == line


def test_tokens_and_pass_rates_need_no_model_weights(
    model: str, traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = tmp_path / "tokenizer"
    tiny_lm.tokenizer().save_pretrained(tokenizer)
    given = [f"--files=[{traces}]", f"--output={tmp_path}/t.jsonl"]
    score(*given, f"--model={tokenizer}", "--tokens=true", "--difficulty=pass_rate")
    score(*given[:1], f"--output={tmp_path}/d.jsonl", "--difficulty=pass_rate")
    assert capsys.readouterr().out.count("difficulty of 31") == 2


def test_a_judge_with_an_instruction_of_its_own(
    traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = tmp_path / "judge"
    constant_judge({"1": 1.0, "0": 1.0}).save_pretrained(judge)
    tiny_lm.tokenizer().save_pretrained(judge)
    output = tmp_path / "judged.jsonl"
    given = [f"--files={traces}", f"--model={judge}", "--difficulty=judge"]
    score(*given, f"--output={output}", "--instruction=Is it hard? 1: yes, 0: no")
    assert {trace.difficulty for trace in read_traces(str(output))} == {0.5}
    assert capsys.readouterr().out.startswith("31 traces, difficulty of 31: ")
    settings = json.loads((tmp_path / "judged.jsonl.settings.json").read_text())
    assert settings["instruction"] == "Is it hard? 1: yes, 0: no"
    assert settings["model"] == str(judge)


def test_positives_alone_have_no_pass_rate_to_speak_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "positives.jsonl"
    write_traces(path, [Trace("1 + 1 =", "2", score=1), Trace("2 + 2 =", "4", score=1)])
    score(f"--files={path}", f"--output={tmp_path}/s.jsonl", "--difficulty=pass_rate")
    assert "no prompt is difficult, since all traces are correct" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing to fill; set tokens, perplexity or difficulty"),
        (["--tokens=true"], "tokens needs a model; set model to its source"),
        (["--perplexity=true"], "perplexity needs a model"),
        (["--difficulty=judge"], "difficulty=judge needs a model"),
        (["--difficulty=hard"], "difficulty must be one of 'pass_rate', 'judge', got 'hard'"),
        (["--levels=5", "--tokens=true"], "levels=5 are of difficulty, which is not filled"),
        (["--levels=1", "--difficulty=pass_rate"], "levels must be at least 2, got 1"),
        (["--threshold=.nan", "--difficulty=pass_rate"], "threshold must be a finite number"),
        (["--model=MODEL", "--difficulty=pass_rate"], "model has no effect"),
        (["--model=MODEL", *ALL, "--batch_size=0"], "batch_size must be at least 1, got 0"),
        (["--model=MODEL", *ALL, "--chat=true"], "the tokenizer has no chat template"),
        (["--model=MODEL", *ALL, "--device=xx"], "device must be such as 'cpu' or 'cuda:0'"),
        (["--model=MODEL", *ALL, "--dtype=int3"], "dtype must be"),
        (["--model=nowhere/none", *ALL], "cannot load a tokenizer from 'nowhere/none'"),
        (
            ["--model=MODEL", "--difficulty=judge", "--instruction= "],
            "instruction must tell the judge",
        ),
        (["--model=MODEL", "--tokens=true", "--instruction=a"], "instruction has no effect"),
    ],
    ids=str,
)
def test_wrong_options_are_one_line(
    options: list[str],
    message: str,
    model: str,
    traces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    options = [each.replace("MODEL", model) for each in options]
    line = error_of(capsys, f"--files={traces}", f"--output={tmp_path}/new/s.jsonl", *options)
    assert message in line
    assert list(tmp_path.iterdir()) == [traces]


def test_an_output_that_is_read_is_refused(
    model: str, traces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = traces.read_bytes()
    given = [f"--model={model}", "--tokens=true"]
    for files in (traces, f"{traces.parent}/*.jsonl"):
        line = error_of(capsys, f"--files={files}", f"--output={traces}", *given)
        assert "traces.jsonl would be written, but is also read" in line
    assert traces.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"prompt": "a", "response": "1", "id": "sum"}', "a trace of prompt 'sum' has no score"),
        ('{"prompt": "a", "response": 1}', "line 1: response must be a text, got 1 (int)"),
        ("", "is empty"),
    ],
    ids=["score", "type", "empty"],
)
def test_wrong_traces_are_one_line(
    content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "traces.jsonl"
    path.write_text(content)
    given = [f"--files={path}", f"--output={tmp_path}/s.jsonl", "--difficulty=pass_rate"]
    assert message in error_of(capsys, *given)
    assert list(tmp_path.iterdir()) == [path]


def test_other_settings_are_one_line(
    model: str, traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [f"--files={traces}", f"--output={tmp_path}/s.jsonl", f"--model={model}", *ALL]
    score(*given)
    before = (tmp_path / "s.jsonl").read_bytes()
    line = error_of(capsys, *given, "--dtype=bfloat16")
    assert "dtype: 'torch.float32' in the file, 'torch.bfloat16' now" in line
    assert (tmp_path / "s.jsonl").read_bytes() == before


@pytest.mark.slow
def test_a_killed_command_loses_and_repeats_nothing(model: str, tmp_path: Path) -> None:
    traces, path = tmp_path / "traces.jsonl", tmp_path / "killed.jsonl"
    rows = [Trace(f"{i} + 1 =", "so " * (i % 60 + 10), score=i % 2) for i in range(400)]
    write_traces(traces, rows)
    given = [f"--files={traces}", f"--model={model}", "--batch_size=1", *ALL]
    command = [sys.executable, "-m", "kdlight.cli", "traces", "score", *given]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = [*command, f"--output={path}"]
    process = subprocess.Popen(killed, env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not (path.exists() and path.stat().st_size > 2000):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()  # type: ignore[union-attr]
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 0 < path.read_bytes().count(b"\n") < 400
    again = subprocess.run(killed, env=environment, check=True, capture_output=True, text=True)
    assert again.stdout.startswith("400 traces, n_tokens of 400, perplexity of 400, difficulty of")
    score(*given, f"--output={tmp_path}/whole.jsonl")
    assert path.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
