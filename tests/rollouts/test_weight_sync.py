"""Weights that arrive at a server are those of the student, or it is an error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kdlight import CausalLM
from kdlight.endpoints import Endpoint, ServerError
from kdlight.rollouts.probe import probe_of, token_log_probs
from kdlight.rollouts.saved_weights import SavedWeights
from kdlight.rollouts.vllm_server import VLLMServer
from kdlight.rollouts.weight_sync import Sent, WeightSync, other_weights
from kdlight.rollouts.writer import Writer
from tests.support import tiny_lm
from tests.support.token_server import TokenServer, serve

RUN = "0a1b2c3d"


@pytest.fixture(params=[True, False], ids=["labels", "no labels"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TokenServer]:
    with serve(tiny_lm.save(tmp_path / "model"), labeled=request.param) as state:
        yield state


@pytest.fixture
def sync(server: TokenServer, tmp_path: Path) -> Iterator[WeightSync]:
    requests = VLLMServer(Endpoint(server.url, retries=0))
    yield WeightSync(
        requests,
        "student",
        SavedWeights(tmp_path / "weights"),
        max_error=1e-3,
        labeled=server.labeled,
    )
    requests.endpoint.close()


def send(sync: WeightSync, network: Any, step: int = 0) -> Sent:
    probe = probe_of(network)
    scores = token_log_probs(Writer(network), probe)
    return sync.send(
        network, step, version=f"{RUN}-{step}", weights=None, probe=probe, scores=scores
    )


def student(seed: int) -> Any:
    return CausalLM.wrap(tiny_lm.model(seed=seed))


def test_the_server_has_what_it_was_sent(server: TokenServer, sync: WeightSync) -> None:
    sent = send(sync, student(3))
    assert sync.has(sent)
    assert sent.error == sync.difference(sent) < 1e-5
    assert server.version == (f"{RUN}-0" if server.labeled else "default")
    server.restart()
    assert not sync.has(sent)
    sync.restore(sent)
    assert sync.has(sent)


def test_only_the_last_weights_stay_on_disk(sync: WeightSync, tmp_path: Path) -> None:
    for step in range(3):
        sent = send(sync, student(step), step)
        assert [*(tmp_path / "weights").iterdir()] == [sent.folder]


def test_weights_that_do_not_arrive_get_no_label(server: TokenServer, sync: WeightSync) -> None:
    server.load = lambda folder: None
    with pytest.raises(ServerError, match=f"sent to {server.url}, .* max_sync_error=0.001"):
        send(sync, student(3))
    assert server.version == (f"loading-{RUN}-0" if server.labeled else "default")


def during_the_probe(server: TokenServer, work: Callable[[], None]) -> None:
    """Do some work once, after weights are loaded and before they are compared."""

    def fault(state: TokenServer, body: dict[str, Any], number: int) -> None:
        if body["sampling_params"].get("prompt_logprobs") is not None and server.fault is not None:
            server.fault = None
            work()

    server.fault = fault


def test_weights_on_their_way_have_no_label_of_another_run(
    server: TokenServer, sync: WeightSync, tmp_path: Path
) -> None:
    sent = send(sync, student(3))
    other = WeightSync(
        sync.server,
        "student",
        SavedWeights(tmp_path / "other"),
        max_error=1e-3,
        labeled=server.labeled,
    )
    seen: list[bool] = []
    during_the_probe(server, lambda: seen.append(sync.has(sent)))
    send(other, student(4), 1)
    assert seen == [False]


def test_a_run_notices_another_one_before_it_labels_its_weights(
    server: TokenServer, sync: WeightSync
) -> None:
    if not server.labeled:
        pytest.skip("the server has no labels")
    during_the_probe(server, lambda: setattr(server, "version", "loading-12345678-3"))
    with pytest.raises(ServerError, match="got other weights while it was used"):
        send(sync, student(3))
    assert server.version == "loading-12345678-3"


def test_a_rank_waits_for_another_one_that_gives_the_weights(
    server: TokenServer, sync: WeightSync
) -> None:
    if not server.labeled:
        pytest.skip("the server has no labels")
    sent = send(sync, student(3))
    server.version = f"loading-{sent.version}"
    threading.Timer(0.3, setattr, (server, "version", sent.version)).start()
    sync.restore(sent)
    assert len(server.loaded) == 1
    assert sync.has(sent)


def test_the_error_names_the_server() -> None:
    assert other_weights("http://there").url == "http://there"
