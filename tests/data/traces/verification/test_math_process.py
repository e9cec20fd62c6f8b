"""The process that compares expressions: its limits, threads, forks, and the package missing."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

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


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(math_process, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs the package math-verify: pip install 'kdlight\[m"):
        MathProcess().compare("7", "7")


def test_a_process_is_closed_twice() -> None:
    process = MathProcess()
    process.close()
    process.close()
    assert threading.active_count() >= 1
