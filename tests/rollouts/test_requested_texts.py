"""Texts that are asked for at once, and again where other weights wrote them."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kdlight.endpoints import Endpoint, ServerError
from kdlight.models import Sampling
from kdlight.rollouts.requested_texts import RequestedTexts
from kdlight.rollouts.vllm_server import VLLMServer
from tests.support import tiny_lm
from tests.support.token_server import TokenServer, serve

ASKED = {number: (torch.tensor([3 + number, 4]), 2) for number in (0, 2, 5)}

INTERRUPTED = """
import os, signal, sys, threading
import torch
from kdlight.endpoints import Endpoint
from kdlight.models import Sampling
from kdlight.rollouts.requested_texts import RequestedTexts
from kdlight.rollouts.vllm_server import VLLMServer
server = VLLMServer(Endpoint(f"http://127.0.0.1:{sys.argv[1]}", timeout=300, retries=12))
threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
texts = RequestedTexts(server, "student", None, Sampling(), 0)
texts.ask({number: (torch.tensor([1, 2]), 5) for number in range(4)})
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TokenServer]:
    with serve(tiny_lm.save(tmp_path / "model")) as state:
        yield state


@pytest.fixture
def texts(server: TokenServer) -> Iterator[RequestedTexts]:
    requests = VLLMServer(Endpoint(server.url, retries=0))
    yield RequestedTexts(requests, "student", "default", Sampling(), 7, in_flight=3)
    requests.endpoint.close()


def test_a_text_has_its_number_and_its_seed(server: TokenServer, texts: RequestedTexts) -> None:
    found = texts.ask_all(ASKED)
    assert list(found) == [0, 2, 5]
    assert texts.ask_all({2: ASKED[2]})[2] == found[2]
    seeds = [body["sampling_params"]["seed"] for body in server.asked]
    assert len(set(seeds)) == 3
    assert texts.ask_all({}) == {}


def test_texts_are_asked_for_at_once(server: TokenServer, texts: RequestedTexts) -> None:
    active, most = [0], [0]

    def slow(state: TokenServer, body: dict[str, Any], number: int) -> None:
        with state.lock:
            active[0] += 1
            most[0] = max(most[0], active[0])
        time.sleep(0.2)
        with state.lock:
            active[0] -= 1

    server.fault = slow
    texts.ask_all(ASKED)
    assert most[0] == 3


def test_an_interrupted_run_ends_while_the_server_does_not_answer() -> None:
    with socket.socket() as silent:  # accepts, and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        began = time.monotonic()
        command = [sys.executable, "-c", INTERRUPTED, str(silent.getsockname()[1])]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "KeyboardInterrupt" in ended.stderr, ended.stderr
    assert time.monotonic() - began < 50  # and not (1 + retries) * timeout


def test_other_weights_are_an_error_where_nothing_can_give_them_back(
    server: TokenServer, texts: RequestedTexts
) -> None:
    server.version = "of another run"
    assert texts.ask(ASKED) == {}
    with pytest.raises(ServerError, match="got other weights while it was used"):
        texts.ask_all(ASKED)
