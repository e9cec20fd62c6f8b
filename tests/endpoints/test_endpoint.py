from __future__ import annotations

import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kdlight.endpoints import Endpoint, RequestRefused, ServerError
from kdlight.endpoints.client import Client
from tests.support.http_server import Reply, http_server


def quick(url: str, **options: Any) -> Endpoint:
    return Endpoint(url, **{"timeout": 2.0, "retries": 3, "longest_pause": 0.05, **options})


def test_an_answer_is_returned() -> None:
    with http_server(lambda asked, number: Reply({"path": asked.path})) as server:
        endpoint = quick(server.url)
        assert endpoint.get("/a").json() == {"path": "/a"}
        assert endpoint.post("/b", json={"x": 1}).json() == {"path": "/b"}
        assert endpoint.post("/c", content=b"\x00\x01").status == 200
        assert server.asked[1].json() == {"x": 1}
        assert server.asked[2].content == b"\x00\x01"
        assert endpoint.received == sum(len(b'{"path": "/a"}') for _ in range(3))


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(status: int) -> None:
    with http_server(lambda _, n: Reply("ok") if n == 2 else Reply("no", status)) as server:
        assert quick(server.url).get("/").json() == "ok"
        assert len(server.asked) == 3


def test_the_pause_is_the_one_that_the_server_asks_for() -> None:
    def decide(_: Any, number: int) -> Reply:
        return Reply("ok") if number else Reply("later", 429, {"Retry-After": "0.3"})

    with http_server(decide) as server:
        begin = time.perf_counter()
        quick(server.url, longest_pause=5.0).get("/")
        assert 0.3 <= time.perf_counter() - begin < 1.5


def test_a_request_that_is_refused_is_not_sent_again() -> None:
    with http_server(lambda *_: Reply({"error": "k too large"}, 400)) as server:
        with pytest.raises(
            RequestRefused, match="refused the scores .* status 400.*k too large"
        ) as e:
            quick(server.url).post("/v1", json={}, what="the scores")
        assert (e.value.status, len(server.asked)) == (400, 1)
        assert "k too large" in e.value.text


@pytest.mark.parametrize("status", [401, 403])
def test_a_missing_token_is_told(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with http_server(lambda *_: Reply("who?", status)) as server:
        with pytest.raises(RequestRefused, match="set token_variable"):
            quick(server.url).get("/")
        monkeypatch.setenv("TEACHER_TOKEN", "s3cret")
        with pytest.raises(RequestRefused, match="variable TEACHER_TOKEN") as error:
            quick(server.url, token_variable="TEACHER_TOKEN").get("/")
        assert "s3cret" not in str(error.value)


def test_the_token_is_sent_and_written_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_TOKEN", "s3cret")
    with http_server(lambda *_: Reply("ok")) as server:
        endpoint = quick(server.url, token_variable="TEACHER_TOKEN")
        endpoint.get("/")
        assert server.asked[0].headers["authorization"] == "Bearer s3cret"
        assert b"s3cret" not in pickle.dumps(endpoint)
        assert "s3cret" not in repr(endpoint)
        assert pickle.loads(pickle.dumps(endpoint)).get("/").json() == "ok"


def test_no_server_is_one_error_with_the_address() -> None:
    with http_server(lambda *_: Reply("ok")) as server:
        url = server.url
    with pytest.raises(
        ServerError, match=r"did not answer the scores .* after 4 attempts"
    ) as error:
        quick(url).get("/v1", what="the scores")
    assert url in str(error.value)
    assert error.value.url == url
    assert type(error.value) is ServerError


def test_an_answer_that_is_damaged_once_is_asked_for_again() -> None:
    def decide(_: Any, number: int) -> Reply:
        return Reply({"x": 1}) if number == 1 else Reply(b'{"x": ')

    with http_server(decide) as server:
        assert quick(server.url).get("/", accept=lambda answer: answer.json()["x"]) == 1
    with (
        http_server(lambda *_: Reply(b'{"x": ')) as server,
        pytest.raises(ServerError, match="cannot be used: no JSON"),
    ):
        quick(server.url, retries=1).get("/", accept=lambda answer: answer.json())


def test_half_an_answer_is_asked_for_again() -> None:
    def cut(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b"half")
        handler.close_connection = True

    with http_server(lambda _, number: Reply("all") if number else cut) as server:
        assert quick(server.url).get("/").json() == "all"


def test_a_server_that_sends_a_byte_now_and_then_does_not_hold_a_run() -> None:
    def trickle(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        try:
            for _ in range(40):
                handler.wfile.write(b"x")
                handler.wfile.flush()
                time.sleep(0.05)
        except OSError:  # the client has left
            pass
        handler.close_connection = True

    with http_server(lambda *_: trickle) as server:
        begin = time.perf_counter()
        with pytest.raises(ServerError, match="not complete after 0.2 seconds"):
            quick(server.url, timeout=0.2, retries=1).get("/")
        assert time.perf_counter() - begin < 2.0


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="timeout must be"):
        Endpoint("http://a", timeout=0)
    with pytest.raises(ValueError, match="retries must be at least 0"):
        Endpoint("http://a", retries=-1)


def test_a_server_on_this_machine_is_asked_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        http_server(lambda *_: Reply("a proxy", 403)) as proxy,
        http_server(lambda *_: Reply("ok")) as server,
    ):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        assert quick(server.url).get("/").json() == "ok"
        assert not proxy.asked


def test_threads_share_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that open at the same time do not close each other's connections."""
    made: list[Client] = []

    class Slow(Client):
        def __init__(self, **options: Any) -> None:
            time.sleep(0.05)
            super().__init__(**options)
            made.append(self)

    monkeypatch.setattr("kdlight.endpoints.endpoint.Client", Slow)
    with http_server(lambda *_: Reply("ok")) as server, ThreadPoolExecutor(6) as threads:
        endpoint = quick(server.url)
        answers = [threads.submit(endpoint.get, "/") for _ in range(12)]
        assert [each.result().json() for each in answers] == ["ok"] * 12
        assert len(made) == 1
