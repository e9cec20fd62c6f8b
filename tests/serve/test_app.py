"""What a server answers to requests that are wrong, too many, or come at the wrong time."""

from __future__ import annotations

import logging
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from torch import nn

from kdlight.endpoints import Endpoint, RequestRefused, ServerError
from kdlight.remote.wire import TeacherRequest, decode_request, decode_scores, encode_request
from kdlight.serve import Limits, ServedTeacher, TeacherServer
from kdlight.serve.app import ServerApp
from kdlight.serve.worker import Worker
from tests.serve.test_worker import Slow
from tests.support.served import SEQUENCES, TIMEOUT, V, endpoint, network, server, wait_until


def content(*rows: list[int], k: int | None = 5) -> bytes:
    return encode_request(TeacherRequest("score", list(rows or SEQUENCES), k=k))[0]


def refused(at: Endpoint, body: bytes) -> RequestRefused:
    with pytest.raises(RequestRefused) as error:
        at.post("/v1/score", content=body)
    return error.value


def scored_by(at: Endpoint, *rows: list[int]) -> Any:
    body = content(*rows)
    answer = at.post("/v1/score", content=body).content
    lengths, checksum = [len(each) for each in rows], decode_request(body).checksum
    return decode_scores(answer, kind="score", request=checksum, lengths=lengths, vocabulary=None)


def test_wrong_requests_are_refused_and_counted() -> None:
    with server(limits=Limits(k=5, max_tokens=20)) as running:
        at = endpoint(running)
        assert at.get("/health").text == "ready"
        for body in (b"", b"<html>", content()[:-1], content() + b"x"):
            error = refused(at, body)
            assert (error.status, "no request that can be read" in error.text) == (400, True)
        assert "k of this server is 5" in refused(at, content([1], k=6)).text
        assert f"among the {V} tokens" in refused(at, content([V])).text
        assert refused(at, content([1] * 21)).status == 413
        large = refused(at, b"x" * (Limits(k=5, max_tokens=20).max_bytes + 1))
        assert (large.status, "more than" in large.text) == (413, True)
        with pytest.raises(RequestRefused) as missing:
            at.get("/v1/nothing")
        assert missing.value.status == 404
        assert len(scored_by(at, [1, 2])) == 1
        counts = at.get("/metrics").text
        assert 'kdlight_requests_total{kind="unknown",status="400"} 6.0' in counts
        assert 'kdlight_requests_total{kind="unknown",status="413"} 2.0' in counts
        assert 'kdlight_requests_total{kind="score",status="200"} 1.0' in counts
        assert "kdlight_positions_total 2.0" in counts
        at.close()


def test_a_request_without_end_is_refused_early() -> None:
    with server(limits=Limits(k=5, max_tokens=20)) as running:
        host, port = running.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=TIMEOUT) as raw:
            raw.sendall(b"POST /v1/score HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            raw.sendall(b"2000\r\n" + b"x" * 0x2000 + b"\r\n")  # and nothing more
            assert raw.recv(100).startswith(b"HTTP/1.1 413")


def test_what_waits_too_long_is_refused_and_may_be_repeated() -> None:
    network = Slow()
    with TeacherServer(network, limits=Limits(k=5, queue=1)) as running:
        once, often = endpoint(running), endpoint(running, retries=20, longest_pause=0.2)
        network.may_run.clear()
        network.runs.clear()
        with ThreadPoolExecutor(3) as threads:
            first = threads.submit(scored_by, once, [1])
            assert network.runs.wait(TIMEOUT)
            second = threads.submit(scored_by, often, [2])
            wait_until(lambda: running.worker.waiting)
            with pytest.raises(ServerError, match="status 429, '1 requests wait already'"):
                scored_by(once, [3])
            third = threads.submit(scored_by, often, [3])
            time.sleep(0.3)
            network.may_run.set()
            for each in (first, second, third):
                assert len(each.result(TIMEOUT)) == 1
        for each in (once, often):
            each.close()


def test_what_the_teacher_cannot_answer_is_refused_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    network = Slow()
    with TeacherServer(network) as running:
        at = endpoint(running, retries=8)
        error = refused(at, content([13]))
        assert (error.status, "13 brings bad luck" in error.text) == (422, True)
        nn.init.constant_(network.table.weight, float("nan"))
        error = refused(at, content([1]))
        assert (error.status, "logits are NaN" in error.text) == (422, True)
        assert not caplog.records
        at.close()


def test_a_failure_of_another_kind_may_be_repeated_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    network = Slow()
    with TeacherServer(network) as running:
        at = endpoint(running)

        def fail(batch: Any) -> Any:
            raise RuntimeError("out of memory")

        network.forward = fail  # type: ignore[method-assign]
        with (
            caplog.at_level(logging.ERROR),
            pytest.raises(ServerError, match="500, 'RuntimeError: out of memory"),
        ):
            scored_by(at, [1])
        at.close()
    (record,) = caplog.records
    assert "a request of kind 'score' failed" in record.getMessage()


def test_a_client_that_has_left_is_not_answered() -> None:
    network = Slow()
    with TeacherServer(network) as running:
        at = endpoint(running)
        network.may_run.clear()
        network.runs.clear()
        with ThreadPoolExecutor(1) as threads:
            first = threads.submit(scored_by, at, [1])
            assert network.runs.wait(TIMEOUT)
            body = content([2])
            host, port = running.url.removeprefix("http://").split(":")
            head = f"POST /v1/score HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
            with socket.create_connection((host, int(port)), timeout=TIMEOUT) as raw:
                raw.sendall(head.encode() + body)
                wait_until(lambda: running.worker.waiting)
            wait_until(lambda: 'status="499"' in at.get("/metrics").text)
            network.batches.clear()
            network.may_run.set()
            assert first.result(TIMEOUT)
            assert scored_by(at, [3])
            assert network.batches == [1, 1]
        at.close()


def test_before_and_after_it_is_ready_a_server_says_so() -> None:
    worker = Worker(ServedTeacher(network()), queue=1)
    stopping: list[int] = []
    app = ServerApp(worker, Limits(), is_stopping=lambda: bool(stopping))
    with pytest.raises(Exception, match="the server is loading") as error:
        app._check_ready()
    assert error.value.status_code == 503  # type: ignore[attr-defined]
    worker.start()
    wait_until(lambda: worker.state == "ready")
    app._check_ready()
    stopping.append(1)
    with pytest.raises(Exception, match="the server is stopping"):
        app._check_ready()
    worker.stop()
