"""``kdlight traces generate``: its options, and a disk that is full.

What it writes is tested in tests/data/traces/test_generate.py.
"""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest

from kdlight.cli import main
from tests.cli.traces.running import error_of, run
from tests.support import tiny_lm


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_lm.save(tmp_path_factory.mktemp("model"))


def test_missing_prompts_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "traces.jsonl"
    with pytest.raises(SystemExit) as stop:
        main(["traces", "generate", "--source=x", "--prompts=none.jsonl", f"--output={output}"])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert "none.jsonl" in line
    assert not output.exists()


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


ENGINE = "--engine=kdlight.rollouts.VLLMRollouts"


def test_a_server_writes_in_the_place_of_the_model(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support.token_server import serve

    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "1+1="}\n{"prompt": "2+1="}')
    greedy = ["--sampling.temperature=0", "--sampling.max_new_tokens=5", "--samples=1"]
    given = [f"--source={model}", f"--prompts={prompts}", *greedy]
    run("generate", *given, f"--output={tmp_path / 'local.jsonl'}")
    with serve(model) as server:
        monkeypatch.setattr("kdlight.cli.traces.generate.load_model", None)  # which is not called
        options = [ENGINE, f"--engine.url={server.url}"]
        run("generate", *given, *options, f"--output={tmp_path / 'served.jsonl'}")
    assert (tmp_path / "served.jsonl").read_bytes() == (tmp_path / "local.jsonl").read_bytes()
    settings = json.loads((tmp_path / "served.jsonl.settings.json").read_text())
    assert settings["engine"].startswith("vLLM")
    assert settings["weights"] is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([ENGINE, "--engine.url=URL", "--source=another"], "has the model 'student', read from"),
        ([ENGINE, "--engine.url=URL", "--dtype=bfloat16"], "dtype has no effect on the model of a"),
        (["--engine=kdlight.rollouts.HuggingFaceRollouts"], "generates by default; leave engine"),
        ([ENGINE, "--engine.url=URL", "--sampling.max_new_tokens=300"], "context of the model is"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_what_a_server_cannot_do_is_one_line(
    options: list[str],
    message: str,
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tests.support.token_server import serve

    if options[-1] == "--source=another":
        (tmp_path / "another").symlink_to(model)
        monkeypatch.chdir(tmp_path)
    prompts, output = tmp_path / "prompts.jsonl", tmp_path / "traces.jsonl"
    prompts.write_text('{"prompt": "1+1="}')
    with serve(model) as server:
        capsys.readouterr()  # what the server wrote
        asked = [option.replace("URL", server.url) for option in options]
        given = [f"--source={model}", f"--prompts={prompts}", f"--output={output}", *asked]
        assert message in error_of(capsys, "generate", *given)
    assert not output.exists()
