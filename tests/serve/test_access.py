"""A server that others reach has a token, which every request needs."""

from __future__ import annotations

import pytest

from kdlight.endpoints import Endpoint, RequestRefused
from kdlight.serve import TeacherServer
from kdlight.serve.access import BearerAccess, find_token, is_local
from tests.support.served import network


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.3.2.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.3", False),
        ("localhost.example.org", False),
        ("", False),
    ],
)
def test_local_addresses(host: str, local: bool) -> None:
    assert is_local(host) == local


def test_others_need_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"host is '0.0.0.0'.*keep the host 127.0.0.1"):
        find_token("0.0.0.0", None)
    for empty in (None, "", "  "):
        if empty is not None:
            monkeypatch.setenv("MY_TOKEN", empty)
        with pytest.raises(ValueError, match="MY_TOKEN is not set"):
            find_token("0.0.0.0", "MY_TOKEN")
    monkeypatch.setenv("MY_TOKEN", "secret")
    assert find_token("0.0.0.0", "MY_TOKEN") == find_token("127.0.0.1", "MY_TOKEN") == "secret"
    assert find_token("127.0.0.1", None) is None
    with pytest.raises(ValueError, match="and not a token itself") as error:
        find_token("0.0.0.0", "sk-secret")
    assert "sk-secret" not in str(error.value)


@pytest.mark.parametrize(
    "header", [b"", b"Bearer", b"Bearer ", b"Bearer secret ", b"secret", b"bearer secret"]
)
def test_only_the_whole_token_is_allowed(header: bytes) -> None:
    access = BearerAccess(None, "secret")
    assert access.allows(b"Bearer secret")
    assert not access.allows(header)


def test_every_route_but_health_needs_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "secret")
    monkeypatch.setenv("OTHER", "another")
    with TeacherServer(network(), token_variable="MY_TOKEN") as server:
        right = Endpoint(server.url, retries=0, token_variable="MY_TOKEN")
        wrong = Endpoint(server.url, retries=0, token_variable="OTHER")
        without = Endpoint(server.url, retries=0)
        for path in ("/v1/teacher", "/metrics"):
            assert right.get(path).status == 200
        for stranger in (wrong, without):
            assert stranger.get("/health").status == 200
            for path in ("/v1/teacher", "/metrics", "/v1/head", "/nothing"):
                with pytest.raises(RequestRefused) as error:
                    stranger.get(path)
                assert error.value.status == 401
            with pytest.raises(RequestRefused) as error:
                stranger.post("/v1/score", content=b"x" * 100)
            assert error.value.status == 401
        for each in (right, wrong, without):
            each.close()
