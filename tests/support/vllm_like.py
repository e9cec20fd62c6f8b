"""A server that answers like vLLM to requests of log-probabilities, over a function of the tokens.

`scores` is the function: any prefix has logits of its own, the same in every process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from tests.support.http_server import Asked, Reply, Server, http_server

VOCABULARY, CONTEXT, NAME = 40, 64, "teacher"


def scores(prefix: list[int]) -> Tensor:
    """Log-probabilities ``(V,)`` of the token that follows a prefix, in float64."""
    seed = int(sha256(bytes(prefix)).hexdigest()[:8], 16)
    drawn = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(VOCABULARY, generator=drawn, dtype=torch.float64)).log_softmax(-1)


def _entries(prefix: list[int], own: int, k: int) -> dict[str, Any]:
    """The k most likely tokens of a position, and the token that follows it."""
    log_p = scores(prefix)
    order = log_p.argsort(descending=True).tolist()
    chosen = [*order[:k], *([own] if own not in order[:k] else [])]
    return {
        str(token): {
            "logprob": log_p[token].item(),
            "rank": order.index(token) + 1,
            "decoded_token": f"<{token}>",
        }
        for token in chosen
    }


def _complete(request: dict[str, Any]) -> Reply:
    k = request["prompt_logprobs"]
    if not 0 <= k <= VOCABULARY:
        text = f"Requested prompt logprobs of {VOCABULARY}, which is greater than max allowed: 32"
        return Reply({"error": {"message": text}}, status=400)
    if request["model"] != NAME:
        return Reply({"error": {"message": f"no model {request['model']}"}}, status=404)
    choices = [
        {
            "index": number,
            "text": "",
            "prompt_token_ids": tokens if request.get("return_token_ids") else None,
            "prompt_logprobs": [
                None,
                *(_entries(tokens[:at], tokens[at], k) for at in range(1, len(tokens))),
            ],
        }
        for number, tokens in enumerate(request["prompt"])
    ]
    return Reply({"id": "cmpl-1", "model": NAME, "choices": choices})


def answer(asked: Asked, number: int) -> Reply:
    """Answer a request."""
    if asked.path == "/version":
        return Reply({"version": "0.32.0"})
    if asked.path == "/v1/models":
        return Reply({"data": [{"id": NAME, "max_model_len": CONTEXT + 1}]})
    if asked.path == "/v1/completions":
        return _complete(asked.json())
    return Reply({"detail": "Not Found"}, status=404)


@contextmanager
def vllm_like() -> Iterator[Server]:
    """Run the server until the end of the context."""
    with http_server(answer) as server:
        yield server
