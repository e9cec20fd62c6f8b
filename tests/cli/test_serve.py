"""``kdlight serve`` as a process: one line when it is ready, answers, and a quiet end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kdlight.endpoints import Endpoint, RequestRefused
from kdlight.models import CausalLM
from kdlight.remote.dialects import KdlightServer
from tests.cli.test_serve_cli import options
from tests.support.config_runs import tiny
from tests.support.served import SEQUENCES, local

ROOT = Path(__file__).parents[2]
TIMEOUT = 120

__all__ = ["tiny"]  # the fixture


@contextmanager
def serving(args: list[str], folder: Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "kdlight.cli", "serve", *args],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def url_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("kdlight serves CausalLM("), line or process.communicate()[1]
    return line.split()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
def test_a_process_serves_until_it_is_told_to_stop(
    tiny: dict[str, str], tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEACHER_TOKEN", "a-secret")
    args = options(tiny, "--token_variable=TEACHER_TOKEN", "--k=null", "--host=0.0.0.0")
    with serving(args, tmp_path) as process:
        url = url_of(process).replace("0.0.0.0", "127.0.0.1")
        at, stranger = Endpoint(url, token_variable="TEACHER_TOKEN"), Endpoint(url)
        dialect = KdlightServer()
        info = dialect.discover(at, None)
        answers = dialect.score(at, info, SEQUENCES, None)
        teacher = CausalLM(tiny["source"]).eval()
        for scores, tokens in zip(answers, SEQUENCES, strict=True):
            expected = local(teacher, tokens).flatten().numpy()
            assert scores.log_probs == pytest.approx(expected, abs=1e-6)
        with pytest.raises(RequestRefused, match="status 401"):
            dialect.score(stranger, info, SEQUENCES, 5)
        process.send_signal(number)
        out, errors = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0, errors
        assert out == ""
        assert "Traceback" not in errors
        assert "a-secret" not in errors
        for each in (at, stranger):
            each.close()


@pytest.mark.slow
def test_help_is_quick_and_lists_the_options() -> None:
    command = [sys.executable, "-m", "kdlight.cli", "serve", "--help"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "kdlight serve --config FILE" in run.stdout
    assert "--token_variable" in run.stdout
