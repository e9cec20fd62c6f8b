from __future__ import annotations

from typing import Any

import pytest

from kdlight.remote.remote_options import RemoteOptions
from tests.support import served


def test_addresses_are_a_list() -> None:
    assert RemoteOptions("http://a/").urls == ["http://a"]
    assert RemoteOptions(["http://a", "http://b"]).urls == ["http://a", "http://b"]


@pytest.mark.parametrize(("k", "asked"), [(7, 7), (None, 102), (1000, 102)])
def test_k_is_at_most_the_vocabulary(k: int | None, asked: int) -> None:
    with served.server() as server:
        assert RemoteOptions(server.url, k=k).open([served.endpoint(server)]).k == asked


def test_fewer_bits_are_fewer_bytes_and_nearly_the_same_numbers() -> None:
    with served.server() as server:
        sizes, answers = [], []
        for bits in (32, 8):
            endpoint = served.endpoint(server)
            asker = RemoteOptions(server.url, k=20, bits=bits).open([endpoint])
            before = endpoint.received
            dialect, info = asker.connection.dialect, asker.connection.info
            answers.append(dialect.score(endpoint, info, [[*range(5, 60)]], 20)[0])
            sizes.append(endpoint.received - before)
    assert sizes[1] < 0.7 * sizes[0]
    assert answers[0].ids.tolist() == answers[1].ids.tolist()
    assert abs(answers[0].log_probs - answers[1].log_probs).max() < 0.02


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"url": 8000}, TypeError),
        ({"model": 3}, TypeError),
        ({"states": "bfloat16"}, TypeError),
        ({"bits": 9}, ValueError),
        ({"requests": None}, TypeError),
        ({"k": True}, TypeError),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any], kind: type[Exception]) -> None:
    (name,) = wrong
    with pytest.raises(kind, match=f"{name} must be"):
        RemoteOptions(**{"url": "http://a", **wrong})
