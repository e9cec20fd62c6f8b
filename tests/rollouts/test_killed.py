"""A server or a command that is killed costs a retry: no prompt is skipped, none is doubled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import tiny_lm
from tests.support.token_server import serve
from tests.support.vllm_server import free_port

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
PROMPTS, SAMPLES = 7, 12


@pytest.fixture
def model(tmp_path: Path) -> str:
    return tiny_lm.save(tmp_path / "model")


def start(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", *arguments]
    return subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)


def command(model: str, url: str, output: Path) -> list[str]:
    prompts = output.with_name("prompts.jsonl")
    lines = [json.dumps({"prompt": f"{i} + 1 =", "prompt_id": str(i)}) for i in range(PROMPTS)]
    prompts.write_text("\n".join(lines))
    options: dict[str, Any] = {
        "source": model,
        "prompts": prompts,
        "output": output,
        "samples": SAMPLES,
        "sampling.max_new_tokens": 24,
        "sampling.temperature": 1.0,
        "batch_size": 4,
        "engine": "kdlight.rollouts.VLLMRollouts",
        "engine.url": url,
    }
    given = [f"--{name}={value}" for name, value in options.items()]
    return ["kdlight.cli", "traces", "generate", *given]


def wait_for_lines(path: Path, process: subprocess.Popen, size: int) -> None:
    deadline = time.monotonic() + 120
    while not (path.exists() and path.stat().st_size > size):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stderr is not None
    process.stderr.close()


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


def keys(path: Path) -> list[tuple[str, int]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [(row["prompt_id"], row["meta"]["generation"]) for row in rows]


EXPECTED = [(str(i), n) for i in range(PROMPTS) for n in range(SAMPLES)]


@pytest.fixture
def whole(model: str, tmp_path: Path) -> bytes:
    path = tmp_path / "whole.jsonl"
    with serve(model) as server:
        finish(start(*command(model, server.url, path)))
    assert keys(path) == EXPECTED
    return path.read_bytes()


@pytest.mark.slow
def test_a_killed_command_skips_and_doubles_no_prompt(
    model: str, whole: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "killed.jsonl"
    with serve(model) as server:
        given = command(model, server.url, path)
        for size in (500, 3000):
            process = start(*given)
            wait_for_lines(path, process, size)
            kill(process)
            assert 0 < len(path.read_bytes().splitlines()) < len(EXPECTED)
        finish(start(*given))
    assert path.read_bytes() == whole


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def process(model: str, port: int) -> Iterator[subprocess.Popen]:
    server = start("tests.support.token_server", model, str(port))
    yield server
    kill(server)


@pytest.mark.slow
def test_a_killed_server_costs_a_retry(
    model: str, whole: bytes, tmp_path: Path, port: int, process: subprocess.Popen
) -> None:
    path = tmp_path / "killed.jsonl"
    client = start(*command(model, f"http://127.0.0.1:{port}", path))  # before the server is there
    wait_for_lines(path, client, 1000)
    kill(process)
    assert client.poll() is None
    again = start("tests.support.token_server", model, str(port))
    try:
        finish(client)
    finally:
        kill(again)
    assert path.read_bytes() == whole
