"""The process that compares expressions: its limits, threads, forks, and the package missing."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kdlight.data.traces.verification import math_process
from kdlight.data.traces.verification.math_process import CHARACTERS, MathProcess

NEVER_ENDS = r"\boxed{9^{9^{9^{9^{9}}}}}"


@pytest.fixture(scope="module")
def process() -> Iterator[MathProcess]:
    pytest.importorskip("math_verify", reason="the extra math is not installed")
    process = MathProcess()
    yield process
    process.close()


def test_any_thread_can_compare(process: MathProcess) -> None:
    answers = ["1+x", "x+2", "x + 1", "x"] * 4
    with ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(lambda answer: process.compare("x+1", rf"\boxed{{{answer}}}"), answers)
        )
    assert found == ["right", "wrong", "right", "wrong"] * 4


@pytest.mark.slow
def test_an_expression_that_takes_too_long_is_wrong_and_the_next_is_compared(
    process: MathProcess,
) -> None:
    handler = signal.getsignal(signal.SIGALRM)
    assert process.compare("7", NEVER_ENDS) == "wrong"
    assert process.compare("7", r"\boxed{7}") == "right"
    assert signal.getsignal(signal.SIGALRM) is handler


def test_a_process_that_was_ended_is_started_again(process: MathProcess) -> None:
    assert process.compare("7", "7") == "right"
    assert process._process is not None
    process._process.kill()
    process._process.wait()
    assert process.compare("7", "7") == "right"


def test_a_fork_has_a_process_of_its_own(process: MathProcess) -> None:
    assert process.compare("7", "7") == "right"
    parent = process._process
    assert parent is not None
    own = os.getpid()
    process.forget()  # what a fork does
    try:
        assert process.compare("7", "7") == "right"
        assert process._process is not None
        assert process._process.pid != parent.pid
        assert parent.poll() is None
        assert os.getpid() == own
    finally:
        parent.kill()
        parent.communicate()


def test_lengths_are_limited() -> None:
    process = MathProcess()  # which needs no package to refuse a length
    assert process.compare("7", "1" * (CHARACTERS + 1)) == "wrong"
    assert process.compare("1" * (CHARACTERS + 1), "7") == "unreadable"
    assert process._process is None


@pytest.mark.slow
def test_a_reference_that_takes_too_long_is_unreadable(process: MathProcess) -> None:
    assert process.compare("9^{9^{9^{9}}}", "7") == "unreadable"
    assert process.compare("8", "7") == "wrong"


@pytest.mark.parametrize(
    "reference",
    [
        "7",
        "x",
        r"\infty",
        "(1, 2)",
        r"\{1, 2\}",
        "x = 1 or x = 2",
        "x < 3",
        "1/0",
        "It is 8",
        r"50\%",
    ],
)
def test_a_reference_that_can_be_compared_is_readable(process: MathProcess, reference: str) -> None:
    assert process.compare(reference, r"\boxed{77}") == "wrong"
    assert reference in process._readable


def test_the_references_that_are_remembered_are_limited(
    process: MathProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(math_process, "REMEMBERED", 2)
    for reference in ("1", "2", "3", "4"):
        assert process.compare(reference, "7") == "wrong"
    assert len(process._readable) <= 2


@pytest.mark.parametrize("code", ["raise SystemExit(1)", "print('unreadable')", "print()", ""])
def test_a_process_that_does_not_start_is_named(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(code)
    monkeypatch.setattr(math_process, "WORKER", worker)
    monkeypatch.setattr(math_process, "check_math_verify", lambda: None)
    process = MathProcess()
    for _ in range(2):
        with pytest.raises(ValueError, match="the process of math-verify did not start; run `impo"):
            process.compare("7", "7")
        assert process._process is None


def test_a_python_that_cannot_be_run_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(math_process, "check_math_verify", lambda: None)
    monkeypatch.setattr(math_process.sys, "executable", str(tmp_path / "none"))
    with pytest.raises(ValueError, match="the process of math-verify did not start"):
        MathProcess().compare("7", "7")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(math_process, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs the package math-verify: pip install 'kdlight\[m"):
        MathProcess().compare("7", "7")


def test_a_process_is_closed_twice() -> None:
    process = MathProcess()
    process.close()
    process.close()
    assert threading.active_count() >= 1
