"""A server in a thread: it starts, refuses what cannot be, and answers before it ends."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from torch import nn

from kdlight.endpoints import Endpoint, ServerError
from kdlight.serve import TeacherServer
from tests.serve.test_app import scored_by
from tests.serve.test_worker import Slow
from tests.support import served
from tests.support.served import TIMEOUT, endpoint, network, wait_until


def test_it_is_there_within_the_context_only() -> None:
    with TeacherServer(network()) as server:
        at = endpoint(server)
        assert at.get("/health").text == "ready"
        assert server.url.startswith("http://127.0.0.1:")
        at.close()
    with pytest.raises(ServerError):
        Endpoint(server.url, retries=0).get("/health")


def test_two_servers_have_ports_of_their_own() -> None:
    with TeacherServer(network()) as one, TeacherServer(network(1)) as other:
        found = []
        for server in (one, other):
            at = endpoint(server)
            found.append(at.get("/v1/teacher").json()["weights"])
            at.close()
        assert one.url != other.url
        assert found[0] != found[1]


def test_while_a_teacher_loads_clients_are_told_to_wait() -> None:
    network = Slow()
    network.may_run.clear()
    server = TeacherServer(network)
    runner = threading.Thread(target=server.run)
    runner.start()
    at = endpoint(server)
    for path in ("/health", "/v1/teacher", "/v1/head"):
        with pytest.raises(ServerError, match="status 503, 'the server is loading'"):
            at.get(path)
    network.may_run.set()
    patient = endpoint(server, retries=20, longest_pause=0.1)
    assert patient.get("/v1/teacher").json()["vocab_size"] == 30
    server.stop()
    runner.join(TIMEOUT)
    assert not runner.is_alive()
    for each in (at, patient):
        each.close()


def test_requests_that_run_are_answered_before_the_end() -> None:
    network = Slow()
    with ThreadPoolExecutor(4) as threads:
        with TeacherServer(network) as server:
            at = endpoint(server)
            network.may_run.clear()
            network.runs.clear()
            answers = [threads.submit(scored_by, at, [1])]
            assert network.runs.wait(TIMEOUT)
            answers += [threads.submit(scored_by, at, [n]) for n in range(2, 5)]
            wait_until(lambda: server.worker.waiting == 3)
            server.stop()
            time.sleep(0.3)
            network.may_run.set()
        assert [len(each.result(TIMEOUT)) for each in answers] == [1] * 4
        at.close()


@pytest.mark.parametrize("as_context", [True, False])
def test_a_teacher_that_does_not_answer_on_tokens_ends_it(as_context: bool) -> None:
    server = TeacherServer(nn.Linear(2, 3))
    with pytest.raises(ValueError, match="Linear cannot be served"):
        server.__enter__() if as_context else server.run()


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: .*another port"):
            TeacherServer(network(), port=port)


def test_an_address_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "secret")
    with pytest.raises(OSError, match="cannot listen on no.such.host.invalid:0"):
        TeacherServer(network(), host="no.such.host.invalid", token_variable="MY_TOKEN")
    with pytest.raises(ValueError, match="port must be at most 65535, got 99999"):
        TeacherServer(network(), port=99999)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_an_address_of_version_6_is_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        server = TeacherServer(network(), host="::1")
    except OSError:
        pytest.skip("no IPv6")
    with server:
        assert server.url.startswith("http://[::1]:")
        at = endpoint(server)
        assert at.get("/health").text == "ready"
        at.close()


def test_an_address_that_others_reach_needs_a_token() -> None:
    with pytest.raises(ValueError, match="which other machines reach"):
        TeacherServer(network(), host="0.0.0.0")


def test_a_client_that_stalls_holds_neither_a_request_nor_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kdlight.serve.app.BODY_SECONDS", 1)
    begin = time.monotonic()
    with served.server() as running:
        host, _, port = running.url.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port)), timeout=30) as client:
            client.sendall(b"POST /v1/score HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
            assert client.recv(100).startswith(b"HTTP/1.1 408")
        with socket.create_connection((host, int(port)), timeout=30) as other:
            other.sendall(b"POST /v1/score HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
            running.stop()
            assert other.recv(100)
    assert time.monotonic() - begin < 20
