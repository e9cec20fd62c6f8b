"""A tiny language model behind a server, and what it answers by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kdlight.endpoints import Endpoint
from kdlight.models import CausalLM
from kdlight.serve import Limits, ServedTeacher, TeacherServer
from tests.support import tiny_lm

TIMEOUT = 30.0
V = 102
SEQUENCES = [[5, 6, 7], [8, 9, 10, 11, 12, 13, 14], [15], [16, 17, 18, 19], [20, 21, 22]]


def network(seed: int = 0) -> CausalLM:
    return CausalLM.wrap(tiny_lm.model(seed=seed).eval())


def server(teacher: Any = None, *, limits: Limits | None = None, **options: Any) -> TeacherServer:
    """A server of a tiny model; ``options`` are those of a `ServedTeacher`."""
    options.setdefault("tokenizer", tiny_lm.tokenizer())
    served = ServedTeacher(network() if teacher is None else teacher, **options)
    return TeacherServer(served, limits=limits or Limits(k=None))


def endpoint(server: TeacherServer, **options: Any) -> Endpoint:
    return Endpoint(server.url, **{"retries": 0, "timeout": 30.0, **options})


@torch.no_grad()
def local(network: Any, tokens: list[int]) -> Tensor:
    """The log-probabilities ``(T, V)`` of a sequence by itself."""
    return network({"input_ids": torch.tensor([tokens])}).logits()[0].log_softmax(-1)


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds; fail after a while."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
