"""What a server tells about itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kdlight.endpoints import Endpoint, ServerError
from kdlight.endpoints.answer import Answer
from kdlight.rollouts.served_model import (
    describe_server,
    field,
    served_weights,
    weight_version,
)
from tests.support import tiny_lm
from tests.support.token_server import TokenServer, serve


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(tiny_lm.save(tmp_path_factory.mktemp("model")))


@pytest.fixture
def server(folder: Path) -> Iterator[TokenServer]:
    with serve(folder) as state:
        yield state


@pytest.fixture
def endpoint(server: TokenServer) -> Iterator[Endpoint]:
    made = Endpoint(server.url, retries=1, longest_pause=0.1)
    yield made
    made.close()


def test_its_model_is_found(server: TokenServer, endpoint: Endpoint, folder: Path) -> None:
    for name in (None, "student"):
        found = describe_server(endpoint, name)
        assert (found.name, found.root, found.context) == ("student", str(folder), 256)
        assert found.version == "default"
    with pytest.raises(ValueError, match="model is 'none', but .* serves"):
        describe_server(endpoint, "none")


def test_labels_and_sums_change_with_the_weights(server: TokenServer, endpoint: Endpoint) -> None:
    before = served_weights(endpoint)
    assert before == served_weights(endpoint)
    server.model.lm_head.weight.data.add_(1)
    assert served_weights(endpoint) != before
    server.version = "a-3"
    assert weight_version(endpoint) == "a-3"


def test_a_server_without_labels_has_none(folder: Path) -> None:
    with serve(folder, labeled=False) as server:
        endpoint = Endpoint(server.url, retries=0)
        assert weight_version(endpoint) is None
        assert describe_server(endpoint, None).version is None
        endpoint.close()


def test_what_is_no_such_server_is_an_error() -> None:
    with pytest.raises(ValueError, match="an answer without 'version'"):
        field("version")(Answer(200, {}, b"[]"))
    with pytest.raises(ServerError, match="did not answer its version"):
        describe_server(Endpoint("http://127.0.0.1:9", retries=0, timeout=2), None)
