"""One thread runs a teacher; what waits together runs together, and fails alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

from kdlight.remote.wire import TeacherRequest
from kdlight.serve import ServedTeacher
from kdlight.serve.worker import Full, Worker
from tests.support.scored import is_same
from tests.support.served import TIMEOUT


class Slow(nn.Module):
    """Waits until it may run; counts its batches; refuses the token 13."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(30, 30)
        self.may_run, self.runs = threading.Event(), threading.Event()
        self.may_run.set()
        self.batches: list[int] = []

    def forward(self, batch: Any) -> torch.Tensor:
        self.runs.set()
        assert self.may_run.wait(TIMEOUT)
        ids = batch["input_ids"]
        self.batches.append(len(ids))
        if (ids == 13).any():
            raise ValueError("13 brings bad luck")
        return self.table(ids)


def ask(*tokens: int) -> TeacherRequest:
    return TeacherRequest("score", [list(tokens)], k=3)


@contextmanager
def working(network: nn.Module, *, queue: int = 8, **options: Any) -> Iterator[Worker]:
    loaded = threading.Event()
    worker = Worker(ServedTeacher(network, **options), queue=queue, on_ready=loaded.set)
    assert worker.state == "loading"
    worker.start()
    assert loaded.wait(TIMEOUT)
    try:
        yield worker
    finally:
        worker.stop()


def held(network: Slow, worker: Worker) -> Future:
    """The answer to a request that runs until ``may_run`` is set."""
    network.may_run.clear()
    network.runs.clear()
    answer = worker.submit(ask(1))
    assert network.runs.wait(TIMEOUT)
    network.batches.clear()
    return answer


def test_what_waits_runs_together() -> None:
    network = Slow()
    with working(network) as worker:
        assert worker.state == "ready"
        held(network, worker)
        answers = [worker.submit(ask(n, n + 1)) for n in range(2, 7)]
        assert worker.waiting == 5
        network.may_run.set()
        found = [each.result(TIMEOUT)[0] for each in answers]
        assert network.batches == [1, 5]
        for n, scores in zip(range(2, 7), found, strict=True):
            assert is_same(worker.submit(ask(n, n + 1)).result(TIMEOUT)[0], scores, atol=1e-6)
    assert worker.state == "stopped"


def test_no_more_runs_together_than_fits() -> None:
    network = Slow()
    with working(network, batch_tokens=4) as worker:
        held(network, worker)
        answers = [worker.submit(ask(2, 3)) for _ in range(3)]
        network.may_run.set()
        assert all(each.result(TIMEOUT) for each in answers)
        assert network.batches == [1, 2, 1]


def test_one_that_fails_does_not_spoil_the_others() -> None:
    network = Slow()
    with working(network) as worker:
        held(network, worker)
        answers = [worker.submit(ask(n)) for n in (12, 13, 14)]
        network.may_run.set()
        assert answers[0].result(TIMEOUT)[0].ids.shape == (3,)
        assert answers[2].result(TIMEOUT)[0].ids.shape == (3,)
        with pytest.raises(ValueError, match="13 brings bad luck"):
            answers[1].result(TIMEOUT)
        assert worker.submit(ask(1)).result(TIMEOUT)


def test_a_full_queue_takes_no_more() -> None:
    network = Slow()
    with working(network, queue=2) as worker:
        held(network, worker)
        answers = [worker.submit(ask(2)), worker.submit(ask(3))]
        with pytest.raises(Full):
            worker.submit(ask(4))
        network.may_run.set()
        assert all(each.result(TIMEOUT) for each in answers)


def test_what_was_given_up_is_not_run() -> None:
    network = Slow()
    with working(network) as worker:
        held(network, worker)
        given_up, other = worker.submit(ask(2)), worker.submit(ask(3))
        assert given_up.cancel()
        network.may_run.set()
        assert other.result(TIMEOUT)
        assert network.batches == [1, 1]


def test_what_waits_is_answered_before_the_end() -> None:
    network = Slow()
    with working(network, batch_tokens=1) as worker:
        first = held(network, worker)
        answers = [worker.submit(ask(n)) for n in range(2, 6)]
        network.may_run.set()
    assert worker.state == "stopped"
    assert all(each.result(0) for each in [first, *answers])


def test_a_teacher_that_cannot_be_served_is_an_error_of_the_worker() -> None:
    with working(nn.Linear(2, 3)) as worker:
        assert worker.state in ("loading", "stopped")
        assert isinstance(worker.error, ValueError)


def test_a_worker_that_was_not_started_can_be_stopped() -> None:
    Worker(ServedTeacher(Slow()), queue=1).stop()
