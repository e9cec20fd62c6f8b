"""``kdlight traces verify``: what it counts, and that it loses no file.

What it writes is tested in tests/data/traces/verification/test_verify.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdlight.data import read_traces
from tests.cli.traces.running import error_of, run

GOOD = json.dumps({"prompt": "q", "response": "2", "answer": "2"})


def test_prompts_with_both_kinds_of_traces_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "traces.jsonl"
    rows = [
        {"prompt": "1+1=", "response": text, "answer": "2", "finished": True, "prompt_id": "one"}
        for text in ("2", "3")
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    run("verify", f"--files=[{path}]", f"--output={tmp_path}")
    printed = capsys.readouterr().out
    assert printed.startswith("1 positive, 1 negative, 0 unfinished; 1 prompts have")
    assert len((tmp_path / "positives.jsonl").read_text().splitlines()) == 1
    assert (tmp_path / "unfinished.jsonl").read_text() == ""


def rows_of_two_prompts(folder: Path) -> Path:
    """Write three truncated responses and one right, and two right and one wrong."""
    rows = [("hard", "2", True)] + [("hard", "so", False)] * 3
    rows += [("easy", "2", True)] * 2 + [("easy", "3", True)]
    path = folder / "raw.jsonl"
    lines = [
        {"prompt": p, "prompt_id": p, "response": r, "answer": "2", "finished": done}
        for p, r, done in rows
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.mark.parametrize("keep", [False, True])
def test_its_files_together_have_the_pass_rates(keep: bool, tmp_path: Path) -> None:
    raw = rows_of_two_prompts(tmp_path)
    run("verify", f"--files={raw}", f"--output={tmp_path}", f"--keep_unfinished={keep}")
    files = [str(tmp_path / f"{name}.jsonl") for name in ("positives", "negatives", "unfinished")]
    counts = [len(Path(name).read_text().splitlines()) for name in files]
    assert counts == ([3, 4, 0] if keep else [3, 1, 3])
    given = "[" + ", ".join(files) + "]"
    run("score", f"--files={given}", f"--output={tmp_path}/s.jsonl", "--difficulty=pass_rate")
    scored = read_traces(str(tmp_path / "s.jsonl"))
    assert {t.prompt_id: t.difficulty for t in scored} == {"hard": 0.75, "easy": 1 / 3}
    assert {t.score for t in scored if t.finished is False} == {0.0}


def test_files_are_a_text_or_a_list(tmp_path: Path) -> None:
    raw = rows_of_two_prompts(tmp_path)
    run("verify", f"--files={raw}", f"--output={tmp_path}/a")
    run("verify", f"--files=[{raw}]", f"--output={tmp_path}/b")
    for name in ("positives", "negatives", "unfinished"):
        one, other = (tmp_path / folder / f"{name}.jsonl" for folder in "ab")
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (b'{"prompt": "q", "response": "\\ud800"}', "line 2 has the lone surrogate"),
        (b'{"prompt": "q", "response": "\xff"}', "is not UTF-8 text, line 2"),
        (b'{"prompt": "q", "response": "a", "n": ' + b"1" * 5000 + b"}", "line 2 is not JSON"),
        (b'{"prompt": "q", "response": "a", "n": ' + b"[" * 100_000, "line 2 is not JSON"),
        (b'{"prompt": "q", "response": 2}', "line 2: response must be a text"),
        (b'{"prompt": "q", "response": "2", "finished": "false"}', "line 2: finished must be true"),
        (b'{"prompt": "q", "response": "2"}', "has no answer"),
    ],
    ids=["surrogate", "utf-8", "digits", "depth", "number", "finished", "answer"],
)
def test_an_output_keeps_its_content_when_a_row_is_bad(
    row: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = [tmp_path / f"{name}.jsonl" for name in ("positives", "negatives")]
    for path in outputs:
        path.write_text(f"{path}\n")
    traces = tmp_path / "traces.jsonl"
    traces.write_bytes(GOOD.encode() + b"\n" + row + b"\n")
    line = error_of(capsys, "verify", f"--files=[{traces}]", f"--output={tmp_path}")
    assert message in line
    assert [path.read_text() for path in outputs] == [f"{path}\n" for path in outputs]
    assert sorted(tmp_path.iterdir()) == sorted([*outputs, traces])


def test_an_output_that_is_read_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "negatives.jsonl"
    path.write_text(GOOD)
    (tmp_path / "other").symlink_to(tmp_path)
    for files in (path, f"{tmp_path}/other/*.jsonl"):
        line = error_of(capsys, "verify", f"--files=[{files}]", f"--output={tmp_path}")
        assert "negatives.jsonl would be written, but is also read" in line
    assert path.read_text() == GOOD


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--verifier=math:pi"], "it is 3.14"),
        (["--verifier=nobody"], "no verifier 'nobody'"),
        (["--threshold=.nan"], "threshold must be a finite number"),
    ],
)
def test_bad_options_of_verify_are_one_line(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "traces.jsonl"
    path.write_text(GOOD)
    line = error_of(capsys, "verify", f"--files=[{path}]", f"--output={tmp_path}", *options)
    assert message in line
    assert list(tmp_path.iterdir()) == [path]
