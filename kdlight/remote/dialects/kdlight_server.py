"""``kdlight serve``: exact log-probabilities, those of given ids, and hidden states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kdlight.cache.records import BITS, EXACT, Sequence
from kdlight.checks import check_choice
from kdlight.endpoints import Endpoint, ServerError
from kdlight.endpoints.answer import Answer
from kdlight.remote.dialects.dialect import Dialect, Tokens
from kdlight.remote.expected_weights import expected_weights
from kdlight.remote.number_checks import check_numbers
from kdlight.remote.server_info import ServerInfo
from kdlight.remote.wire import (
    PROTOCOL,
    TeacherRequest,
    decode_scores,
    decode_states,
    encode_request,
)
from kdlight.remote.wire_head import decode_head


class KdlightServer(Dialect):
    """The server of ``kdlight serve``; `kdlight.remote.wire` describes requests and answers.

    Args:
        bits: bits of a log-probability on the way, one of `kdlight.cache.records.BITS`: 32 is
            exact, about 280 bytes a position at k = 50; 8 takes about 122.

    Raises:
        ValueError: an unknown number of bits.

    Example:
        >>> KdlightServer(bits=8).name
        'kdlight'
    """

    name = "kdlight"
    scores_last = True
    needs_check = False

    def __init__(self, bits: int = EXACT) -> None:
        check_choice("bits", bits, BITS)
        self.bits = bits

    def discover(self, endpoint: Endpoint, model: str | None) -> ServerInfo:
        """Return what the server tells about itself."""

        def accept(answer: Answer) -> ServerInfo:
            return _read_info(answer.json(), endpoint)

        info = endpoint.get("/v1/teacher", what="what it serves", accept=accept)
        if model not in (None, info.model):
            raise ValueError(
                f"model is {model!r}, but {endpoint.url} serves {info.model!r}; leave model out, or"
                " give the URL of the server of that model"
            )
        return info

    def score(
        self, endpoint: Endpoint, info: ServerInfo, sequences: list[Tokens], k: int | None
    ) -> list[Sequence]:
        """Return the k most likely tokens at each position of each sequence."""
        request = TeacherRequest("score", sequences, k=k, bits=self.bits)
        shown = "all tokens" if k is None else f"the {k} most likely tokens"
        return self._scores(endpoint, info, request, f"{shown} of {len(sequences)} sequences")

    def score_ids(
        self,
        endpoint: Endpoint,
        info: ServerInfo,
        sequences: list[Tokens],
        ids: list[NDArray[np.int64]],
    ) -> list[Sequence]:
        """Return the exact log-probabilities of ``ids``, each ``(T, k)``, by increasing id.

        An id that stands twice at a position is returned once.
        """
        request = TeacherRequest("score_ids", sequences, ids=ids)
        return self._scores(endpoint, info, request, f"given ids in {len(sequences)} sequences")

    def states(self, endpoint: Endpoint, info: ServerInfo, sequences: list[Tokens]) -> list[Tensor]:
        """Return the hidden states ``(T, D)`` before the output head, in the dtype of the head."""
        request = TeacherRequest("states", sequences)
        content, checksum = encode_request(request)
        dtype = getattr(torch, info.dtype or "", None)

        def accept(answer: Answer) -> list[Tensor]:
            states = decode_states(answer.content, request=checksum, lengths=request.lengths)
            return [each.to(dtype) if dtype else each for each in states]

        what = f"hidden states of {len(sequences)} sequences"
        return self._post(endpoint, info, content, what, accept)

    def head(self, endpoint: Endpoint, info: ServerInfo) -> tuple[nn.Module, Callable | None]:
        """Return the output head, and what the model does to logits after it, or None."""

        def accept(answer: Answer) -> tuple[nn.Module, Callable | None]:
            return decode_head(answer.content)

        headers = expected_weights(info.weights)
        return endpoint.get("/v1/head", headers=headers, what="the output head", accept=accept)

    def _scores(
        self, endpoint: Endpoint, info: ServerInfo, request: TeacherRequest, what: str
    ) -> list[Sequence]:
        content, checksum = encode_request(request)

        def accept(answer: Answer) -> list[Sequence]:
            scores = decode_scores(
                answer.content,
                kind=request.kind,
                request=checksum,
                lengths=request.lengths,
                vocabulary=info.vocab_size,
            )
            missing = sum(each.length - len(each.log_tails) for each in scores)
            if missing:
                raise ValueError(f"{missing} positions are missing")
            check_numbers(
                scores,
                k=None if request.k is None else min(request.k, info.vocab_size or request.k),
                exact=request.bits == EXACT,
            )
            return scores

        return self._post(endpoint, info, content, what, accept)

    def _post(
        self,
        endpoint: Endpoint,
        info: ServerInfo,
        content: bytes,
        what: str,
        accept: Callable[[Answer], Any],
    ) -> Any:
        headers = expected_weights(info.weights)
        return endpoint.post(
            "/v1/score", content=content, headers=headers, what=what, accept=accept
        )


_OPTIONAL = {
    **{"max_k": int, "context_length": int, "tokenizer": str, "weights": str, "states": str},
    **{"max_tokens": int, "max_entries": int},
}


def _read_info(answer: Any, endpoint: Endpoint) -> ServerInfo:
    if not isinstance(answer, dict) or "kdlight" not in answer:
        raise ServerError(f"{endpoint.url} is no server of kdlight serve", url=endpoint.url)
    if answer.get("protocol") != PROTOCOL:
        raise ServerError(
            f"{endpoint.url} runs kdlight {answer['kdlight']} with protocol"
            f" {answer.get('protocol')!r}, but this is protocol {PROTOCOL!r}; install the same"
            " version on both sides",
            url=endpoint.url,
        )
    for name, kind in {"model": str, "vocab_size": int, "dtype": str, **_OPTIONAL}.items():
        value = answer.get(name)
        if type(value) is not kind and not (name in _OPTIONAL and value is None):
            raise ValueError(f"{name} of the server is {value!r}, no {kind.__name__}")
    return ServerInfo(
        f"kdlight {answer['kdlight']}",
        answer["model"],
        answer["vocab_size"],
        dtype=answer["dtype"],
        scores_ids=bool(answer.get("scores_ids")),
        **{name: answer.get(name) for name in _OPTIONAL},
    )
