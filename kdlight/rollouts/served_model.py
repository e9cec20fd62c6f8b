"""What a vLLM server runs, asked before the work."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch.distributed as dist

from kdlight.endpoints import Endpoint, RequestRefused
from kdlight.endpoints.answer import Answer

ABSENT = (404, 405)
"""Statuses of a request that a server does not have."""


@dataclass(frozen=True)
class ServedModel:
    """What a server runs.

    Attributes:
        software: name and version of the server.
        name: the name of the model in requests.
        root: where the server read the model from.
        context: the number of tokens of a prompt and its continuation; None if it is not told.
        version: the label of the weights; None if the server has no labels.
    """

    software: str
    name: str
    root: str | None = None
    context: int | None = None
    version: str | None = None


def describe_server(endpoint: Endpoint, model: str | None) -> ServedModel:
    """Return what a server runs.

    Args:
        endpoint: the server.
        model: the name of the model; None if the server has one.

    Raises:
        ValueError: it has no model of this name, or several if none was named.
        ServerError: it does not answer, or is no vLLM server.
    """
    software = endpoint.get("/version", what="its version", accept=field("version"))
    models = endpoint.get("/v1/models", what="its models", accept=field("data"))
    # adapters have a parent
    fitting = [
        each
        for each in models
        if (each["id"] == model if model is not None else each.get("parent") is None)
    ]
    if len(fitting) != 1:
        raise ValueError(
            f"model is {model!r}, but {endpoint.url} serves {[each['id'] for each in models]}; set"
            " model to one of them"
        )
    (found,) = fitting
    return ServedModel(
        software=f"vLLM {software}",
        name=found["id"],
        root=found.get("root"),
        context=found.get("max_model_len"),
        version=weight_version(endpoint),
    )


def weight_version(endpoint: Endpoint) -> str | None:
    """Return the label of the weights of a server; None if it has no labels."""
    try:
        return endpoint.get(
            "/weight_info", what="the label of its weights", accept=field("weight_version")
        )
    except RequestRefused as error:
        if error.status in ABSENT:
            return None
        raise


def check_labels(served: ServedModel, url: str) -> None:
    """Raise a ValueError where several ranks would train with a server that has no labels.

    A text of other weights is then known by comparing weights afterwards, when another rank may
    have given the server the right ones again.

    Example:
        >>> check_labels(ServedModel("vLLM 0.9", "student"), "http://localhost:8000")
    """
    several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    if served.version is None and several:
        raise ValueError(
            f"{url} ({served.software}) keeps no label of its weights, without which several ranks"
            " cannot tell who wrote a text; use a newer vLLM, with VLLM_SERVER_DEV_MODE=1, or one"
            " process"
        )


def served_weights(endpoint: Endpoint) -> str | None:
    """Return a hash of the weights of a server; None if it does not compute one."""
    try:
        sums = endpoint.post(
            "/weight_checker",
            json={"action": "checksum"},
            what="checksums of its weights",
            accept=field("checksums"),
        )
    except RequestRefused as error:
        if error.status in ABSENT:
            return None
        raise
    return sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()[:16]


def field(name: str) -> Callable[[Answer], Any]:
    """Return a function that returns a field of the JSON object in an answer.

    Example:
        >>> field("version")(Answer(200, {}, b'{"version": "0.32.0"}'))
        '0.32.0'
    """

    def read(answer: Answer) -> Any:
        values = answer.json()
        if not isinstance(values, dict) or name not in values:
            raise ValueError(f"an answer without {name!r}: {answer.text[:80]!r}")
        return values[name]

    return read
