from __future__ import annotations

from typing import Any

import pytest

from kdlight.endpoints import Endpoint, ServerError
from kdlight.remote.dialects.openai_models import read_models
from tests.support.http_server import Reply, http_server


def models(*names: str) -> Any:
    return lambda *_: Reply({"data": [{"id": name} for name in names]})


def test_the_only_model_need_not_be_named() -> None:
    with http_server(models("a")) as server:
        assert read_models(Endpoint(server.url), None)["id"] == "a"


def test_one_of_several_must_be_named() -> None:
    with http_server(models("b", "a")) as server:
        assert read_models(Endpoint(server.url), "b")["id"] == "b"
        with pytest.raises(ValueError, match=r"has the models \['a', 'b'\]; set model"):
            read_models(Endpoint(server.url), None)
        with pytest.raises(ValueError, match="model is 'c'"):
            read_models(Endpoint(server.url), "c")


@pytest.mark.parametrize("answer", [{}, [], {"data": None}, {"data": [{}]}], ids=str)
def test_another_answer_is_no_list(answer: Any) -> None:
    with (
        http_server(lambda *_: Reply(answer)) as server,
        pytest.raises(ServerError, match="no list of models"),
    ):
        read_models(Endpoint(server.url), None)
