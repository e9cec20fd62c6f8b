"""``kdlight traces``: two commands, and errors in one line.

What they write is tested in tests/data/traces/test_generate.py and test_verify.py.
"""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest

from kdlight.cli import main
from tests.support import tiny_lm


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


def run(*arguments: str) -> None:
    main(["traces", *arguments])


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line that a command prints when it stops."""
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    return line


GOOD = json.dumps({"prompt": "q", "response": "2", "answer": "2"})


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch_size=0"], "batch_size must be at least 1, got 0"),
        (["--samples=0"], "samples must be at least 1, got 0"),
        (["--samples=none.json"], "samples: none.json does not exist"),
        (["--sampling.max_new_tokens=0"], "max_new_tokens must be at least 1, got 0"),
        (["--sampling.max_new_tokens=300"], "the context of the model is 256"),
        (["--sampling.temperature=-1"], "temperature must be finite and not negative, got -1"),
        (["--device=xx"], "device must be such as 'cpu' or 'cuda:0', got 'xx'"),
        (["--device=meta"], "device must be such as 'cpu' or 'cuda:0', got 'meta'"),
        (["--dtype=int3"], "dtype must be"),
        (["--chat=true"], "chat=True, but the tokenizer has no chat template"),
    ],
)
def test_bad_options_of_generate_are_one_line(
    options: list[str],
    message: str,
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prompts, output = tmp_path / "prompts.jsonl", tmp_path / "new" / "traces.jsonl"
    prompts.write_text('{"prompt": "1+1="}')
    given = [f"--source={model}", f"--prompts={prompts}", f"--output={output}"]
    line = error_of(capsys, "generate", *given, "--sampling.max_new_tokens=2", *options)
    assert message in line
    assert list(tmp_path.iterdir()) == [prompts]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_lm.save(tmp_path_factory.mktemp("model"))


def test_numbers_of_samples_are_read_from_a_file(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts, output = tmp_path / "prompts.jsonl", tmp_path / "traces.jsonl"
    rows = [{"prompt": f"{i}+1=", "prompt_id": f"p{i}"} for i in range(3)]
    prompts.write_text("\n".join(map(json.dumps, rows)))
    samples = tmp_path / "samples.json"
    samples.write_text('{"p2": 2, "p1": 0, "p0": 1}')
    given = [f"--source={model}", f"--prompts={prompts}", f"--output={output}", "--device=cpu"]
    given += ["--sampling.max_new_tokens=2"]
    run("generate", *given, f"--samples={samples}")
    assert f"3 prompts, 3 traces: {output}" in capsys.readouterr().out
    ids = [json.loads(line)["prompt_id"] for line in output.read_text().splitlines()]
    assert ids == ["p0", "p2", "p2"]
    samples.write_text('{"p2": 2, "p1": 0}')
    line = error_of(capsys, "generate", *given, f"--samples={samples}")
    assert "samples and prompts must have the same prompt ids, but 'p0' is only in prompts" in line


def test_a_full_disk_is_one_line_and_the_run_continues(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts, output = tmp_path / "prompts.jsonl", tmp_path / "traces.jsonl"
    prompts.write_text('{"prompt": "1+1="}')
    given = [f"--source={model}", f"--prompts={prompts}", f"--output={output}", "--device=cpu"]
    given += ["--samples=40", "--batch_size=4", "--sampling.max_new_tokens=8"]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        line = error_of(capsys, "generate", *given)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"cannot write {output}: " in line
    run("generate", *given)
    assert f"1 prompts, 40 traces: {output}" in capsys.readouterr().out
    assert len(output.read_text().splitlines()) == 40
