from __future__ import annotations

from typing import Any

import pytest

from kdlight.endpoints import Endpoint
from kdlight.remote import DIALECTS, Dialect, ServerInfo

ENDPOINT, INFO = Endpoint("http://localhost:1"), ServerInfo("a server", "teacher")


class Smallest(Dialect):
    name = "smallest"

    def discover(self, endpoint: Any, model: Any) -> ServerInfo:
        return INFO

    def score(self, endpoint: Any, info: Any, sequences: Any, k: Any) -> list[Any]:
        return []


@pytest.mark.parametrize(
    ("method", "arguments"), [("score_ids", ([], [])), ("states", ([],)), ("head", ())]
)
def test_what_a_dialect_does_not_have_is_told(method: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(NotImplementedError, match="smallest servers"):
        getattr(Smallest(), method)(ENDPOINT, INFO, *arguments)
    assert Smallest().check_tokenizer(ENDPOINT, INFO, object()) is None


def test_names_are_those_of_the_classes() -> None:
    assert [kind.name for kind in DIALECTS.values()] == [*DIALECTS]
