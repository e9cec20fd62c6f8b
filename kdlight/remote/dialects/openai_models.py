"""The list of models of a server that speaks OpenAI's protocol."""

from __future__ import annotations

from typing import Any

from kdlight.endpoints import Endpoint, ServerError


def read_models(endpoint: Endpoint, model: str | None) -> dict[str, Any]:
    """Return the entry of a model in ``GET /v1/models``.

    Args:
        endpoint: the server.
        model: the model's name; None for the only model.

    Raises:
        ServerError: the server has no such list.
        ValueError: it has no model of this name, or several and none is named.
    """
    try:
        entries = {str(each["id"]): each for each in _entries(endpoint)}
    except (TypeError, KeyError) as error:
        raise ServerError(
            f"{endpoint.url} has no list of models at /v1/models ({error!r}); check the address",
            url=endpoint.url,
        ) from None
    names = sorted(entries)
    if model is None and len(entries) == 1:
        return entries[names[0]]
    if model is None:
        raise ValueError(f"{endpoint.url} has the models {names}; set model to one of them")
    if model not in entries:
        raise ValueError(
            f"model is {model!r}, but {endpoint.url} has {names}; set model to one of them, or"
            " start the server with this name (vLLM: --served-model-name)"
        )
    return entries[model]


def _entries(endpoint: Endpoint) -> list[Any]:
    return endpoint.get("/v1/models", what="the list of models", accept=lambda a: a.json())["data"]
