from __future__ import annotations

import pickle

import pytest

from kdlight.endpoints import Endpoint, RequestRefused, ServerError
from kdlight.remote.servers import Servers

URLS = [f"http://host{number}:80" for number in range(3)]


def servers() -> Servers:
    return Servers([Endpoint(url) for url in URLS])


def test_they_are_asked_by_turns() -> None:
    made = servers()
    assert [made.ask(lambda each: each.url) for _ in range(4)] == [*URLS, URLS[0]]
    assert pickle.loads(pickle.dumps(made)).ask(lambda each: each.url) == URLS[0]


def test_another_one_answers_for_one_that_does_not() -> None:
    def ask(endpoint: Endpoint) -> str:
        if endpoint.url == URLS[1]:
            raise ServerError("gone", url=endpoint.url)
        return endpoint.url

    made = servers()
    assert [made.ask(ask) for _ in range(3)] == [URLS[0], URLS[2], URLS[2]]


def test_without_any_answer_the_error_is_the_first() -> None:
    def fail(endpoint: Endpoint) -> None:
        raise ServerError(f"{endpoint.url} is gone", url=endpoint.url)

    with pytest.raises(ServerError, match="host0"):
        servers().ask(fail)


def test_a_refusal_is_not_repeated_elsewhere() -> None:
    asked = []

    def refuse(endpoint: Endpoint) -> None:
        asked.append(endpoint.url)
        raise RequestRefused("no", url=endpoint.url)

    with pytest.raises(RequestRefused):
        servers().ask(refuse)
    assert asked == URLS[:1]
