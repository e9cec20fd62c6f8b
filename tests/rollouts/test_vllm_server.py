"""Requests to a server, and what is said where it does not know them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette

from kdlight.endpoints import Endpoint, RequestRefused, ServerError
from kdlight.models import Sampling
from kdlight.rollouts.vllm_server import VLLMServer
from tests.support import tiny_lm
from tests.support.token_server import serve

TEXT: dict[str, Any] = {
    "model": "student",
    "salt": None,
    "sampling": Sampling(temperature=0.5, top_p=0.9),
    "seed": 3,
    "end": [0],
    "vocab_size": 102,
}


@pytest.fixture
def bare() -> Iterator[VLLMServer]:
    """A server without any of the requests."""
    config = uvicorn.Config(Starlette(), host="127.0.0.1", port=0, log_level="error", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        pass
    port = server.servers[0].sockets[0].getsockname()[1]
    made = VLLMServer(Endpoint(f"http://127.0.0.1:{port}", retries=0))
    yield made
    made.endpoint.close()
    server.should_exit = True
    thread.join(timeout=10)


def test_all_that_decides_a_text_is_asked_for(tmp_path: Path) -> None:
    with serve(tiny_lm.save(tmp_path)) as server:
        requests = VLLMServer(Endpoint(server.url, retries=0))
        requests.generate([3, 4], 5, **TEXT)
        scores = requests.score([3, 4, 5], model="student", salt="a")
        requests.endpoint.close()
    text, probe = server.asked
    expected = {"temperature": 0.5, "top_p": 0.9, "seed": 3, "max_tokens": 5}
    assert expected.items() <= text["sampling_params"].items()
    assert text["sampling_params"]["stop_token_ids"] == [0]
    assert text["sampling_params"]["ignore_eos"]
    assert "cache_salt" not in text
    assert probe["cache_salt"] == "a"
    assert len(scores) == 2


def test_a_server_without_a_request_is_told_how_to_open_it(
    bare: VLLMServer, tmp_path: Path
) -> None:
    with pytest.raises(RequestRefused, match="start the server with --enable-scale-out"):
        bare.generate([3], 1, **TEXT)
    for change in (lambda: bare.load(tmp_path), lambda: bare.label("a")):
        with pytest.raises(RequestRefused, match="VLLM_SERVER_DEV_MODE=1"):
            change()
    assert bare.load_adapter(tmp_path) is None


def test_a_folder_that_the_server_cannot_read_is_named(tmp_path: Path) -> None:
    with serve(tiny_lm.save(tmp_path / "model")) as server:
        requests = VLLMServer(Endpoint(server.url, retries=0))
        with pytest.raises(ServerError, match="See that the server reads .*none"):
            requests.load(tmp_path / "none")
        requests.endpoint.close()


def test_a_model_that_is_missing_is_no_missing_request(tmp_path: Path) -> None:
    with serve(tiny_lm.save(tmp_path)) as server:
        requests = VLLMServer(Endpoint(server.url, retries=0))
        with pytest.raises(RequestRefused, match="`gone` does not exist") as caught:
            requests.generate([3], 1, **{**TEXT, "model": "gone"})
        requests.endpoint.close()
    assert "scale-out" not in str(caught.value)
