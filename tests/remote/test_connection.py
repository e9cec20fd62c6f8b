from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kdlight.endpoints import Endpoint
from kdlight.remote import ServerInfo
from kdlight.remote.connection import Connection, check_connection, common_width, connect
from kdlight.remote.dialects import KdlightServer
from kdlight.remote.servers import Servers
from tests.support import served
from tests.support.http_server import Reply, http_server

INFO = ServerInfo(
    "a server", "teacher", vocab_size=100, max_k=20, scores_ids=True, states="float32"
)


def connection(**changes: Any) -> Connection:
    servers = Servers([Endpoint("http://localhost:1")])
    return Connection(servers, KdlightServer(), replace(INFO, **changes))


def test_servers_of_one_teacher_are_alike() -> None:
    with served.server() as one, served.server() as same:
        found = connect([served.endpoint(each) for each in (one, same)], "auto", None)
        assert len(found.servers.endpoints) == 2
    with served.server() as one, served.server(served.network(seed=3)) as other:
        endpoints = [served.endpoint(each) for each in (one, other)]
        with pytest.raises(ValueError, match=f"differ in weights: {one.url} .*{other.url}"):
            connect(endpoints, "auto", None)


def test_servers_of_two_kinds_are_refused() -> None:
    answers = {"/model_info": {"model_path": "teacher"}, "/server_info": {}}
    with (
        served.server() as one,
        http_server(
            lambda asked, _: Reply(answers.get(asked.path), 200 if asked.path in answers else 404)
        ) as other,
        pytest.raises(ValueError, match="'kdlight', and .* 'sglang'"),
    ):
        connect([served.endpoint(one), Endpoint(other.url, retries=0)], "auto", None)


def test_the_width_is_told_or_given() -> None:
    assert common_width(connection(), None) == 100
    assert common_width(connection(), 90) == 90
    assert common_width(connection(vocab_size=None), 90) == 90
    with pytest.raises(ValueError, match="does not tell the width .* set vocab_size"):
        common_width(connection(vocab_size=None), None)
    with pytest.raises(ValueError, match="vocab_size is 101, but .* has 100"):
        common_width(connection(), 101)


def test_what_is_asked_must_be_possible() -> None:
    check_connection(connection(), k=20, student_ids=True, states=False)
    check_connection(connection(max_k=None), k=100, student_ids=False, states=False)
    check_connection(connection(), k=100, student_ids=False, states=True)
    with pytest.raises(ValueError, match="k is 21, .* at most 20"):
        check_connection(connection(), k=21, student_ids=False, states=False)
    with pytest.raises(ValueError, match="tokens='student'"):
        check_connection(connection(scores_ids=False), k=1, student_ids=True, states=False)
    with pytest.raises(ValueError, match="states=True"):
        check_connection(connection(states=None), k=1, student_ids=False, states=True)
