from __future__ import annotations

from typing import Any

import pytest

from kdlight.endpoints import Endpoint, UnusableAnswer
from kdlight.remote import ServerInfo
from kdlight.remote.answers import to_sequence
from kdlight.remote.dialects.prompt_dialect import PromptDialect, scored_tokens
from tests.support.http_server import Reply, http_server


class Echo(PromptDialect):
    """A server that returns what it was asked for."""

    name, path = "echo", "/echo"

    def discover(self, endpoint: Any, model: Any) -> ServerInfo:
        return ServerInfo("echo", "teacher", vocab_size=9)

    def request(self, model: str, sequences: Any, k: int) -> dict[str, Any]:
        return {"model": model, "sequences": sequences, "k": k}

    def read(self, answer: Any, sequences: Any, k: int, vocab_size: Any) -> list[Any]:
        if answer["sequences"] != sequences:
            raise ValueError("another answer")
        return [to_sequence(len(each), [(0, [k], [-0.5])], vocab_size=None) for each in sequences]


@pytest.mark.parametrize(("k", "asked"), [(3, 3), (None, 9)])
def test_one_request_for_all_sequences(k: int | None, asked: int) -> None:
    with http_server(lambda request, _: Reply(request.json())) as server:
        endpoint = Endpoint(server.url, retries=0)
        info = Echo().discover(endpoint, None)
        found = Echo().score(endpoint, info, [[5, 6], [7, 8, 9]], k)
        (sent,) = server.asked
    assert (sent.path, sent.json()["model"], sent.json()["k"]) == ("/echo", "teacher", asked)
    assert [each.ids.tolist() for each in found] == [[asked]] * 2


def test_an_answer_that_cannot_be_read_is_asked_for_again() -> None:
    with http_server(lambda *_: Reply({"sequences": []})) as server:
        endpoint = Endpoint(server.url, retries=1, longest_pause=0.01)
        with pytest.raises(UnusableAnswer, match="the 2 most likely tokens of 1 sequences"):
            Echo().score(endpoint, ServerInfo("echo", "teacher"), [[5]], 2)
        assert len(server.asked) == 2


@pytest.mark.parametrize("entries", [None, {}, [], [None], [1, 2], [None, 1, 2]], ids=str)
def test_other_entries_than_those_of_the_tokens_are_refused(entries: Any) -> None:
    assert scored_tokens([None, 4], [1, 2]) == [4]
    with pytest.raises(ValueError, match="for a sequence of 2 tokens"):
        scored_tokens(entries, [1, 2])
