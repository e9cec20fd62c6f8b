from __future__ import annotations

import pytest

from kdlight.endpoints import Endpoint, RequestRefused, ServerError
from kdlight.remote.discovery import check_dialect, discover
from tests.remote.recordings import Recording, replayed
from tests.support import served
from tests.support.http_server import Reply, http_server


def test_each_server_is_known_by_its_answers() -> None:
    with served.server() as server:
        assert discover(served.endpoint(server), "auto", None)[0].name == "kdlight"
    cases = {"vllm": "vllm_0.32.0.json", "trl": "trl_1.4.0.json"}
    for name, file in {**cases, "text": "llama_cpp_python_0.3.36.json"}.items():
        limits = (102, 64) if name == "vllm" else None
        with http_server(replayed(Recording(file), limits=limits)) as other:
            dialect, _ = discover(Endpoint(other.url, retries=0), "auto", None)
            assert dialect.name == name


def test_a_dialect_that_is_given_is_the_only_one_asked() -> None:
    with http_server(replayed(Recording("vllm_0.32.0.json"))) as server:
        with pytest.raises(RequestRefused):
            discover(Endpoint(server.url, retries=0), "sglang", None)
        assert [each.path for each in server.asked] == ["/model_info"]


def test_another_server_is_told() -> None:
    with (
        http_server(lambda *_: Reply("no", 404)) as server,
        pytest.raises(ServerError, match="speaks none of the dialects .*without /v1"),
    ):
        discover(Endpoint(server.url, retries=0), "auto", None)


def test_a_missing_token_ends_the_search() -> None:
    with http_server(lambda *_: Reply("who?", 401)) as server:
        with pytest.raises(RequestRefused, match="token_variable"):
            discover(Endpoint(server.url, retries=0), "auto", None)
        assert len(server.asked) == 1


def test_names_are_checked() -> None:
    check_dialect("auto")
    with pytest.raises(ValueError, match="dialect must be one of"):
        check_dialect("grpc")
