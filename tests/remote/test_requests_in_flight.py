from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from kdlight.endpoints import ServerError
from kdlight.remote.requests_in_flight import RequestsInFlight
from kdlight.remote.rows import TokenRow
from tests.support.http_server import Asked, Reply, http_server


class Asker:
    """Counts how often rows are asked about, and how many requests run at a time."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.asked: list[bytes] = []
        self.running = self.most = 0
        self.lock = threading.Lock()
        self.seconds = seconds

    def __call__(self, rows: list[TokenRow]) -> list[int]:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
            self.asked += [row.key for row in rows]
        time.sleep(self.seconds)
        with self.lock:
            self.running -= 1
        return [row.tokens[0] for row in rows]

    def __getstate__(self) -> dict[str, float]:
        return {"seconds": self.seconds}

    def __setstate__(self, state: dict[str, float]) -> None:
        self.__init__(state["seconds"])  # type: ignore[misc]


def rows(*numbers: int) -> list[TokenRow]:
    return [TokenRow(str(n).encode(), [n], 0) for n in numbers]


def flight(asker: Asker, requests: int = 2) -> RequestsInFlight:
    return RequestsInFlight(asker, requests=requests, max_tokens=1)


def test_each_row_has_its_answer() -> None:
    made = flight(Asker())
    assert made.collect(rows(3, 1, 2)) == {b"3": 3, b"1": 1, b"2": 2}
    assert made.collect([]) == {}
    made.close()


def test_a_row_that_was_announced_is_asked_about_once() -> None:
    asker = Asker()
    made = flight(asker)
    made.announce(rows(1, 2))
    made.announce(rows(3, 1))
    assert made.collect(rows(1, 2)) == {b"1": 1, b"2": 2}
    assert made.collect(rows(3)) == {b"3": 3}
    assert sorted(asker.asked) == [b"1", b"2", b"3"]
    made.close()


def test_equal_rows_are_one() -> None:
    asker = Asker()
    assert flight(asker).collect(rows(5, 5)) == {b"5": 5}
    assert asker.asked == [b"5"]


def test_what_is_announced_and_never_collected_is_forgotten() -> None:
    made = flight(Asker())
    for number in range(20):
        made.announce(rows(number))
        made.collect(rows(100 + number))
    assert len(made._announced) <= 2
    made.close()


@pytest.mark.parametrize("requests", [1, 3])
def test_so_many_requests_run_at_a_time(requests: int) -> None:
    asker = Asker(0.05)
    made = flight(asker, requests)
    made.collect(rows(*range(6)))
    assert asker.most == requests
    made.close()


def test_announced_requests_run_meanwhile() -> None:
    made = flight(Asker(0.2))
    made.announce(rows(1))
    time.sleep(0.3)
    begin = time.perf_counter()
    made.collect(rows(1))
    assert time.perf_counter() - begin < 0.15
    made.close()


def test_an_error_is_raised_where_the_answer_is_needed() -> None:
    def fail(some: list[TokenRow]) -> list[int]:
        if some[0].tokens[0] == 1:
            raise ServerError("no", url="http://a")
        return [row.tokens[0] for row in some]

    made = RequestsInFlight(fail, requests=1, max_tokens=1)
    made.announce(rows(1))
    assert made.collect(rows(2)) == {b"2": 2}
    with pytest.raises(ServerError):
        made.collect(rows(1))
    with pytest.raises(ServerError):  # and is asked about again
        made.collect(rows(1))
    made.close()


def test_it_is_pickled_without_its_threads() -> None:
    made = flight(Asker())
    made.collect(rows(1))
    assert pickle.loads(pickle.dumps(made)).collect(rows(2)) == {b"2": 2}


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    made = flight(Asker())
    made.collect(rows(1))
    child = os.fork()
    if not child:
        os._exit(0 if made.collect(rows(2)) == {b"2": 2} else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    made.close()


def test_an_interrupted_run_does_not_wait_for_a_server() -> None:
    """The process ends at once, although a request is under way and would be repeated."""
    code = (
        "import os, signal, sys, threading\n"
        "from kdlight import RemoteTeacher\n"
        "import torch\n"
        "threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "teacher = RemoteTeacher(sys.argv[1], k=5, timeout=60, retries=10)\n"
        "teacher({'input_ids': torch.tensor([[1, 2, 3]])})\n"
    )

    info = {
        **{
            "kdlight": "0",
            "protocol": "1",
            "model": "teacher",
            "vocab_size": 9,
            "dtype": "float32",
        },
        **{"max_k": 9, "scores_ids": True},
    }

    def decide(asked: Asked, number: int) -> Any:
        if asked.path == "/v1/teacher":
            return Reply(info)
        return lambda handler: time.sleep(20)

    with http_server(decide) as server:
        begin = time.monotonic()
        command = [sys.executable, "-c", code, server.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert "KeyboardInterrupt" in done.stderr
        assert time.monotonic() - begin < 19


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_what_a_parent_announced_is_asked_about_again() -> None:
    made = flight(Asker(0.5))
    made.announce(rows(1))
    child = os.fork()
    if not child:
        os._exit(0 if made.collect(rows(1)) == {b"1": 1} else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert made.collect(rows(1)) == {b"1": 1}
    made.close()
