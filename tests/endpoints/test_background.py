from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError

import pytest

from kdlight.endpoints.background import BackgroundCalls


def test_results_and_errors_are_those_of_the_calls() -> None:
    calls = BackgroundCalls(3)
    futures = [calls.submit(pow, number, 2) for number in range(20)]
    assert [each.result() for each in futures] == [number**2 for number in range(20)]
    with pytest.raises(ZeroDivisionError):
        calls.submit(lambda: 1 / 0).result()
    assert calls.submit(pow, 2, 2).result() == 4
    calls.close()


@pytest.mark.parametrize("threads", [1, 3])
def test_so_many_run_at_a_time(threads: int) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def call() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.03)
        with lock:
            running -= 1

    calls = BackgroundCalls(threads)
    for future in [calls.submit(call) for _ in range(8)]:
        future.result()
    assert most == threads
    calls.close()


def test_closing_cancels_what_has_not_begun_and_ends_the_threads() -> None:
    before, gate = threading.active_count(), threading.Event()
    calls = BackgroundCalls(1)
    first, second = calls.submit(gate.wait), calls.submit(gate.wait)
    time.sleep(0.1)
    calls.close()
    with pytest.raises(CancelledError):
        second.result()
    gate.set()
    assert first.result()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before
    assert calls.submit(pow, 2, 2).result() == 4  # it can be used again
    calls.close()


def test_a_call_that_never_ends_does_not_keep_a_process() -> None:
    code = (
        "import time; from kdlight.endpoints.background import BackgroundCalls\n"
        "BackgroundCalls(2).submit(time.sleep, 600); time.sleep(0.2)"
    )
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


def test_it_is_pickled_without_its_threads() -> None:
    calls = BackgroundCalls(2)
    calls.submit(pow, 2, 2).result()
    assert pickle.loads(pickle.dumps(calls)).submit(pow, 2, 3).result() == 8
    calls.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    calls = BackgroundCalls(1)
    calls.submit(pow, 2, 2).result()
    child = os.fork()
    if not child:
        os._exit(0 if calls.submit(pow, 2, 3).result(timeout=10) == 8 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    calls.close()
